"""Digests of settings, tensors, files and source code, for cache keys. Every digest is a SHA-256 in hex."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ADDED = "added"  # name in the metadata of a field that was added to its class later


def added(default: Any, **options: Any) -> Any:
    """A new field for a dataclass that existing cache keys contain, such as a method's config or `Protocol`.

    If the field has its `default`, keys and the fingerprint of a board leave it out, so that earlier results stay
    valid. With any other value they contain it.
    """
    return dataclasses.field(default=default, metadata={ADDED: True}, **options)


def _entries(value: Any) -> dict[str, Any]:
    """A dataclass's fields and values, without those of `added` fields at their default."""
    fields = [f for f in dataclasses.fields(value) if not (ADDED in f.metadata and getattr(value, f.name) == f.default)]
    return {f.name: getattr(value, f.name) for f in fields}


def plain(value: Any) -> Any:
    """`value` in types that JSON has: dataclasses become objects, tuples become lists, and paths become strings.

    Raises TypeError for a value of any other type.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(entry) for name, entry in _entries(value).items()}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no canonical form")


def of_json(value: Any) -> str:
    """Digest of settings. Equal values have equal digests; the order of keys in mappings does not matter.

    The keys of mappings must be strings. The digest is that of `plain(value)`. Raises TypeError like `plain`.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_natural)
    return hashlib.sha256(text.encode()).hexdigest()


def _natural(value: Any) -> Any:
    """Convert the outermost level of a value that the json module does not know; json converts the rest faster."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _entries(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no canonical form")


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Digest of named tensors: of their names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


CLOCK_STEP = 0.05  # seconds; two writes that are closer in time may get the same modification time
_known: dict[tuple[int, ...], str] = {}  # state of a file -> its digest, for this process


def of_file(path: Path) -> str:
    """Digest of one file's bytes.

    Models have gigabytes, so a process reads a file only once, and again only if its size, times or inode changed.
    """
    state = state_of(path)
    if state in _known:
        return _known[state]
    file_digest = _of_bytes(path)
    *_, modified, changed = state
    if state_of(path) == state and time.time() - max(modified, changed) / 1e9 > CLOCK_STEP:
        _known[state] = file_digest
    return file_digest


def forget() -> None:
    """Read every file again when its digest is needed the next time."""
    _known.clear()


def state_of(path: Path) -> tuple[int, ...]:
    """Device, inode, size, and times of modification and change (ns): they change when the file's bytes change."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _of_bytes(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_folder(folder: Path) -> str:
    """Digest of the relative paths and bytes of a folder's files, without hidden files.

    Raises FileNotFoundError if there are no files.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no files under {folder}")
    return of_files(folder, files)


def of_files(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the relative paths and bytes of some files of a folder; the order of `files` does not matter."""
    return of_json({p.relative_to(folder).as_posix(): of_file(p) for p in files})


@functools.cache
def of_source(*modules: ModuleType) -> str:
    """Digest of the source code of modules that declare no version, such as plug-ins and libraries."""
    return of_json([Path(inspect.getfile(module)).read_text(encoding="utf-8") for module in modules])


def of_module(module: ModuleType) -> str:
    """The VERSION that a module of Lethe declares; for any other module the digest of its source code."""
    declared = vars(module).get("VERSION") if module.__name__.startswith("bench.") else None
    return of_source(module) if declared is None else str(declared)


def of_code(text: str) -> str:
    """Digest of the syntax tree of Python source, without comments, docstrings, import lines and layout."""
    return hashlib.sha256("\n".join(_words(ast.parse(text))).encode()).hexdigest()


def _words(node: ast.AST) -> Iterator[str]:
    yield type(node).__name__
    body = getattr(node, "body", None)
    documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    if documented and isinstance(body, list) and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
        body = body[1:]
    for name, value in ast.iter_fields(node):
        parts = body if name == "body" else value
        if parts is None or parts == []:  # versions of Python differ in which empty fields they leave out
            continue
        yield f".{name}"
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(part, ast.AST):
                yield from _words(part)
            else:
                yield repr(part)
    yield "/"
