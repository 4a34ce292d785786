"""The store: computed results on disk, each found by its cache key.

An entry is a folder `KIND/DIGEST`, where DIGEST is the first 16 digits of the digest of its key. The folder contains
`record.json`: the full key, facts about the computation, and the digest of the tensors. An entry with tensors also
contains `tensors.safetensors`, until the tensors are discarded (`Store.discard_tensors`).

An entry is written to a temporary folder, which is renamed in one step. So a killed run leaves no incomplete entry,
and of two processes that compute the same entry the first one wins.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.core import digest
from bench.core.lock import held

log = logging.getLogger(__name__)

RECORD, TENSORS = "record.json", "tensors.safetensors"
FORMAT = ".format"  # this file exists unless release 0.1, which had other keys, may have written to the store


class TensorsDiscarded(LookupError):
    """The tensors of an entry were discarded to save space."""


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


class Store:
    """All entries in one folder. Several processes can use it at once, also on several hosts that share the folder.

    Args:
        root: the folder. It is created when the first entry is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._begun = False  # whether `_begin` has run

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Folder of the entry, whether it exists or not."""
        return self.root / kind / digest.of_json(key)[:16]

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the entry exists. It is not read, so it may be damaged."""
        return self.path(kind, key).exists()

    def get(self, kind: str, key: Mapping[str, Any], verify: bool = True) -> Entry | None:
        """The entry; None if it does not exist. A damaged entry is removed with a warning, and None is returned.

        Args:
            kind: kind of the entry.
            key: cache key of the entry.
            verify: whether to compare the tensors with their digest, which reads the whole file.
        """
        path = self.path(kind, key)
        if not path.exists():
            return None
        try:
            try:
                record, content = _read(path, verify)
            except FileNotFoundError:  # another process discarded the tensors, or replaced the entry, while it was read
                record, content = _read(path, verify)
            if content != record["content"]:
                raise ValueError(f"{TENSORS} has digest {content[:16]}; its record says {record['content'][:16]}")
            if record["key"] != digest.plain(key):
                raise ValueError("its record has another key")
        except (FileNotFoundError, ValueError, KeyError) as error:  # other OSErrors: the file system may be unavailable
            if not path.exists():
                return None
            log.warning("removed the damaged entry %s (%s); it will be computed again", path, error)
            shutil.rmtree(path, ignore_errors=True)
            return None
        return Entry(path, record["facts"], content)

    def put(
        self,
        kind: str,
        key: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor] | None = None,
        facts: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> Entry:
        """Write an entry and return it. If another process wrote the entry first, return that entry.

        Args:
            kind: kind of the entry.
            key: cache key of the entry.
            tensors: tensors by name, on any device.
            facts: facts about the result, in types that `bench.core.digest.plain` accepts.
            texts: file name -> text of further files for people. They are not part of any digest.

        Raises OSError if the entry can't be written or read.
        """

        def fill(work: Path) -> None:
            content = ""
            if tensors:
                save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, work / TENSORS)
                content = digest.of_file(work / TENSORS)
            for name, text in (texts or {}).items():
                (work / name).write_text(text)
            record = {"key": digest.plain(key), "facts": digest.plain(dict(facts or {})), "content": content}
            (work / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False))

        path = self.path(kind, key)
        self._begin()
        _write_entry(path, fill)
        entry = self.get(kind, key)
        if entry is None:
            raise OSError(f"the entry {path} could not be read after it was written")
        return entry

    def record(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of an entry for `import_record` of another store; None if there is no entry."""
        entry = self.get(kind, key, verify=False)
        return None if entry is None else {"key": digest.plain(key), "facts": entry.facts, "content": entry.content}

    def import_record(self, kind: str, record: Mapping[str, Any]) -> bool:
        """Add an entry from its `record` in another store. It has no tensors, as if they had been discarded.

        Returns whether the entry was added; False if the entry already exists, which does not change.
        """
        path = self.path(kind, record["key"])
        if path.exists():
            return False
        whole = {name: record[name] for name in ("key", "facts", "content")}
        thin = {"thin": True} if record["content"] else {}
        if "code" in record["key"]:  # a key of release 0.1
            (self.root / FORMAT).unlink(missing_ok=True)
        else:
            self._begin()
        text = json.dumps({**whole, **thin}, indent=1, allow_nan=False)
        _write_entry(path, lambda work: (work / RECORD).write_text(text))
        return True

    def rename(self, kind: str, key: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Change the key of an entry from `key` to `other`.

        Returns whether it was changed; False if there is no entry under `key`, or already one under `other`.
        """
        path, new_path = self.path(kind, key), self.path(kind, other)
        if new_path.exists() or self.get(kind, key, verify=False) is None:
            return False

        def fill(work: Path) -> None:
            shutil.copytree(path, work, dirs_exist_ok=True, copy_function=_link)
            record = json.loads((path / RECORD).read_text())
            (work / RECORD).unlink()  # a link to the old record, which must not change
            (work / RECORD).write_text(json.dumps({**record, "key": digest.plain(other)}, indent=1, allow_nan=False))

        _write_entry(new_path, fill)
        shutil.rmtree(path, ignore_errors=True)
        return True

    def may_hold_old_keys(self) -> bool:
        """Whether release 0.1 may have written to this store."""
        return self.root.exists() and not (self.root / FORMAT).exists()

    def _begin(self) -> None:
        if not self._begun:
            self.root.mkdir(parents=True, exist_ok=True)
            if all(path.name.startswith(".") for path in self.root.iterdir()):  # the store has no entries yet
                (self.root / FORMAT).touch()
            self._begun = True

    def discard_tensors(self, kind: str, key: Mapping[str, Any]) -> None:
        """Remove the tensors of an entry, if it exists, and keep its record.

        The record keeps the digest of the tensors, which the keys of other entries contain.
        """
        path = self.path(kind, key)
        if not (path / TENSORS).exists():
            return
        record = json.loads((path / RECORD).read_text())
        work = path / f".{RECORD}.{os.getpid()}"
        work.write_text(json.dumps({**record, "thin": True}, indent=1, allow_nan=False))
        work.replace(path / RECORD)
        (path / TENSORS).unlink(missing_ok=True)

    def tensors_discarded(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the entry exists and its tensors were discarded."""
        path = self.path(kind, key)
        try:
            return bool(json.loads((path / RECORD).read_text())["content"]) and not (path / TENSORS).exists()
        except (FileNotFoundError, ValueError, KeyError):
            return False

    def drop(self, kind: str, key: Mapping[str, Any]) -> None:
        """Remove an entry, if it exists."""
        shutil.rmtree(self.path(kind, key), ignore_errors=True)

    def clear(self, kind: str) -> None:
        """Remove all entries of a kind."""
        shutil.rmtree(self.root / kind, ignore_errors=True)

    @contextmanager
    def locked(self, kind: str, key: Mapping[str, Any]) -> Iterator[None]:
        """Hold the lock of an entry within the block, so that no other process computes it.

        The block sees every entry of this kind that other processes finished before.
        """
        with held(self.root / ".leases" / f"{kind}-{self.path(kind, key).name}"):
            _refresh(self.path(kind, key).parent)
            yield

    def get_or_compute(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]],
    ) -> Entry:
        """The entry from disk; if there is none, `compute` is called, and its tensors and facts are stored.

        If several processes need the same entry, one computes it and the others wait (`bench.core.lock`).
        """
        entry = self.get(kind, key)
        if entry is not None:
            return entry
        with self.locked(kind, key):
            entry = self.get(kind, key)
            if entry is None:
                tensors, facts = compute()
                entry = self.put(kind, key, tensors, facts)
        return entry


def _write_entry(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write an entry into a temporary folder, and rename the folder to `path`, unless `path` exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        fill(work)
        try:
            os.rename(work, path)
        except OSError:
            _refresh(path.parent)
            if not path.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _read(path: Path, verify: bool) -> tuple[dict[str, Any], str]:
    """The record of an entry, and the digest of its tensors: with `verify` computed, otherwise as recorded."""
    record = json.loads((path / RECORD).read_text())
    if not verify or not record["content"] or (record.get("thin", False) and not (path / TENSORS).exists()):
        return record, record["content"]
    return record, digest.of_file(path / TENSORS)


def _refresh(folder: Path) -> None:
    """Make a network file system read the content of a folder from its server, instead of from its cache."""
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))
