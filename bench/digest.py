"""Digests of what determines a result: settings, tensors, files, source code. All are hex SHA-256."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def plain(value: Any) -> Any:
    """`value` in JSON's own types; dataclasses become objects, tuples lists. Raises TypeError for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
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
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} has no canonical form")


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Digest of named tensors: names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """Digest of one file's bytes."""
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
    """Digest of the modules' source code: a stage computed by other code is another stage."""
    return of_json([Path(inspect.getfile(module)).read_text() for module in modules])
