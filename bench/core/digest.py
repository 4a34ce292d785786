"""Digests of what determines a result: settings, tensors, files, source code. All are hex SHA-256."""

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

ADDED = "added"  # in the metadata of a field that joined a class later


def added(default: Any, **options: Any) -> Any:
    """A dataclass field that joins a class whose values are in keys already, such as a method's config or `Protocol`.

    At its `default` the field is left out of keys and of what a board says of itself, so that earlier results stay
    valid; with any other value it is in them.
    """
    return dataclasses.field(default=default, metadata={ADDED: True}, **options)


def _entries(value: Any) -> dict[str, Any]:
    """A dataclass's fields and values, without those of `added` fields at their default."""
    fields = [f for f in dataclasses.fields(value) if not (ADDED in f.metadata and getattr(value, f.name) == f.default)]
    return {f.name: getattr(value, f.name) for f in fields}


def plain(value: Any) -> Any:
    """`value` in JSON's own types; dataclasses become objects, tuples lists, paths text.

    Raises TypeError for anything else.
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
    """Digest of settings: equal values give equal digests whatever the order of keys.

    As of `plain(value)`, for values whose mappings have strings as keys. Raises TypeError for what has no such form.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_natural)
    return hashlib.sha256(text.encode()).hexdigest()


def _natural(value: Any) -> Any:
    """One step towards JSON's own types, of what json does not know: all else it walks through itself, and fast."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _entries(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no canonical form")


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Digest of named tensors: names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


FRESH = 0.05  # seconds within which a file system may give two writes to a file the same time
_known: dict[tuple[int, ...], str] = {}  # of this process: state of a file -> its digest


def of_file(path: Path) -> str:
    """Digest of one file's bytes.

    A process reads a file once, and again where its size, its times or its inode have changed. Models have gigabytes.
    """
    state = _state(path)
    if state in _known:
        return _known[state]
    found = _of_bytes(path)
    *_, modified, changed = state
    if _state(path) == state and time.time() - max(modified, changed) / 1e9 > FRESH:
        _known[state] = found
    return found


def _state(path: Path) -> tuple[int, ...]:
    """What changes with a file's bytes and not with its name: device, inode, size, times of change in nanoseconds."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _of_bytes(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_folder(folder: Path) -> str:
    """Digest of a folder's files, by relative path and bytes; hidden files are left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no files under {folder}")
    return of_files(folder, files)


def of_files(folder: Path, files: Iterable[Path]) -> str:
    """Digest of some files of a folder, by relative path and bytes, in whatever order they are named."""
    return of_json({p.relative_to(folder).as_posix(): of_file(p) for p in files})


@functools.cache
def of_source(*modules: ModuleType) -> str:
    """Digest of the source code of modules that declare no version, such as plug-ins and libraries."""
    return of_json([Path(inspect.getfile(module)).read_text() for module in modules])


def of_module(module: ModuleType) -> str:
    """The version that one of Lethe's modules declares as VERSION; of any other module its source code."""
    declared = vars(module).get("VERSION") if module.__name__.startswith("bench.") else None
    return of_source(module) if declared is None else str(declared)


def of_code(text: str) -> str:
    """Digest of what Python source does: another comment, docstring, import line or layout gives the same digest."""
    return hashlib.sha256("\n".join(_words(ast.parse(text))).encode()).hexdigest()


def _words(node: ast.AST) -> Iterator[str]:
    yield type(node).__name__
    body = getattr(node, "body", None)
    documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    if documented and isinstance(body, list) and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
        body = body[1:]
    for name, value in ast.iter_fields(node):
        parts = body if name == "body" else value
        if parts is None or parts == []:  # versions of Python differ in what they leave out
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
