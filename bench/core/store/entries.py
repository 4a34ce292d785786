"""One entry of the store: what its folder contains, and how damage is found."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from bench.core import digest

RECORD, TENSORS = "record.json", "tensors.safetensors"
FORMAT = ".format"  # this file exists unless release 0.1, which had other keys, may have written to the store
CHECK = "check"  # name of the digest of the rest of a record; records of earlier releases have none
# errors of a path that is not the file or folder that it should be; other errors may pass, so they are not damage
DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM)


class TensorsDiscarded(LookupError):
    """The tensors of an entry were discarded to save space."""


class Damaged(ValueError):
    """The files of an entry are not those that were written."""


@dataclass(frozen=True)
class Entry:
    """One result in the store.

    Args:
        path: folder of the entry.
        facts: facts about the result, as in `record.json`.
        content: digest of the file of tensors; "" if the entry never had tensors.
    """

    path: Path
    facts: dict[str, Any]
    content: str

    def tensors(self, *names: str) -> dict[str, torch.Tensor]:
        """The tensors called `names`, or all tensors, on the CPU; empty if the entry never had tensors.

        Raises TensorsDiscarded if the tensors were discarded.
        """
        file = self.path / TENSORS
        if not file.exists():
            if self.content:
                raise TensorsDiscarded(f"{self.path} no longer has its tensors")
            return {}
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in names or stored.keys()}


def encoded(key: Mapping[str, Any], facts: Mapping[str, Any], content: str, thin: bool = False) -> str:
    """The text of a record.

    Args:
        key: the cache key, in types that `bench.core.digest.plain` accepts.
        facts: the facts, in the same types.
        content: digest of the file of tensors; "" without tensors.
        thin: whether the tensors were discarded.

    Raises ValueError for a fact that is NaN or infinite.
    """
    record = {"key": digest.plain(key), "facts": digest.plain(facts), "content": content}
    whole = {**record, CHECK: digest.of_json(record), **({"thin": True} if thin else {})}
    return json.dumps(whole, indent=1, allow_nan=False)


def record_of(path: Path) -> dict[str, Any]:
    """The record of the entry at `path`: "key", "facts", "content", and "thin" if the tensors were discarded.

    Raises Damaged if it is not what was written, and other OSErrors if the file system is unavailable.
    """
    try:
        record = json.loads((path / RECORD).read_text())
    except OSError as error:
        raise _named(error, path) from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{RECORD} is not JSON: {error}") from error
    types = {"key": dict, "facts": dict, "content": str}
    if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in types.items()):
        raise Damaged(f"{RECORD} is not the record of an entry")
    if CHECK in record and record[CHECK] != digest.of_json({name: record[name] for name in types}):
        raise Damaged(f"{RECORD} does not match its digest")
    return record


def read(path: Path, key: Mapping[str, Any], verify: bool) -> Entry:
    """The entry at `path`.

    Args:
        path: folder of the entry.
        key: the key that its record must have.
        verify: whether to compare the tensors with their digest, which reads the whole file.

    Raises Damaged if it is not what was written, and other OSErrors if the file system is unavailable.
    """
    record = record_of(path)
    if record["key"] != digest.plain(key):
        raise Damaged("its record has another key")
    content, file = record["content"], path / TENSORS
    try:
        if verify and content and not (record.get("thin") is True and not file.exists()):
            found = digest.of_file(file)
            if found != content:
                raise Damaged(f"{TENSORS} has digest {found[:16]}; its record says {content[:16]}")
    except OSError as error:
        raise _named(error, path) from error
    return Entry(path, record["facts"], content)


def _named(error: OSError, path: Path) -> Exception:
    """`error` as Damaged, or as an OSError that names the entry; not every error of reading names a file."""
    if error.errno in DAMAGE:
        return Damaged(f"{error.strerror}: {Path(error.filename or path).name}")
    return OSError(error.errno, f"the entry can't be read: {error.strerror}", str(path))
