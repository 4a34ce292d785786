"""The store: all entries in one folder.

An entry is a folder `KIND/DIGEST`, where DIGEST is the first 16 digits of the digest of its key. The folder contains
`record.json`: the full key, facts about the computation, the digest of the tensors, and a digest of all these. An entry
with tensors also contains `tensors.safetensors`, until the tensors are discarded (`Store.discard_tensors`).

An entry is written to a temporary folder, which is renamed in one step. So a killed run leaves no incomplete entry,
and of two processes that compute the same entry the first one wins.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.core import digest, lock
from bench.core.store import entries, leftovers
from bench.core.store.entries import FORMAT, RECORD, TENSORS, Damaged, Entry
from bench.core.text.printable import ERRORS

log = logging.getLogger(__name__)

LOCKS = ".leases"  # the folder of the locks


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
        for attempt in (1, 2):  # another process may discard the tensors or replace the entry while it is read
            if (seen := leftovers.identity_of(path)) is None:
                return None
            try:
                return entries.read(path, key, verify)
            except Damaged as error:
                if attempt == 1:
                    continue
                if leftovers.remove(path, seen):
                    log.warning("removed the damaged entry %s (%s); it will be computed again", path, error)
                else:
                    log.warning("the entry %s is damaged (%s) and can't be removed", path, error)
        return None

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
                (work / name).write_text(text, encoding="utf-8", errors=ERRORS)
            (work / RECORD).write_text(entries.encoded(key, facts or {}, content))

        path = self.path(kind, key)
        self._begin()
        for _ in range(2):  # a damaged entry that another process left there is removed by the first `get`
            _write_entry(path, fill)
            if (entry := self.get(kind, key)) is not None:
                return entry
        raise OSError(f"the entry {path} could not be read after it was written")

    def record(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of an entry for `import_record` of another store; None if there is no entry."""
        entry = self.get(kind, key, verify=False)
        return None if entry is None else {"key": digest.plain(key), "facts": entry.facts, "content": entry.content}

    def import_record(self, kind: str, record: Mapping[str, Any]) -> bool:
        """Add an entry from its `record` in another store. It has no tensors, as if they had been discarded.

        Returns whether the entry was added; False if the entry already exists, which does not change.
        """
        path = self.path(kind, record["key"])
        if self.get(kind, record["key"], verify=False) is not None:
            return False
        if "code" in record["key"]:  # a key of release 0.1
            (self.root / FORMAT).unlink(missing_ok=True)
        else:
            self._begin()
        text = entries.encoded(record["key"], record["facts"], record["content"], thin=bool(record["content"]))
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
            record = entries.record_of(path)
            (work / RECORD).unlink()  # a link to the old record, which must not change
            thin = record.get("thin") is True
            (work / RECORD).write_text(entries.encoded(other, record["facts"], record["content"], thin))

        _write_entry(new_path, fill)
        leftovers.remove(path)
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
        with suppress(Damaged, FileNotFoundError):  # the next reader removes a damaged entry, or it is gone already
            record = entries.record_of(path)
            work = leftovers.temporary(path.parent)
            try:
                work.write_text(entries.encoded(record["key"], record["facts"], record["content"], thin=True))
                work.replace(path / RECORD)
            finally:
                work.unlink(missing_ok=True)
            (path / TENSORS).unlink(missing_ok=True)

    def tensors_discarded(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the entry exists and its tensors were discarded."""
        path = self.path(kind, key)
        try:
            return bool(entries.record_of(path)["content"]) and not (path / TENSORS).exists()
        except Damaged:
            return False

    def drop(self, kind: str, key: Mapping[str, Any]) -> None:
        """Remove an entry, if it exists."""
        leftovers.remove(self.path(kind, key))

    def clear(self, kind: str) -> None:
        """Remove all entries of a kind."""
        with suppress(FileNotFoundError):
            for entry in [*os.scandir(self.root / kind)]:
                if not entry.name.startswith("."):  # temporary folders of entries that other processes write now
                    leftovers.remove(Path(entry.path))

    def remove_leftovers(self) -> None:
        """Remove temporary files and locks of processes that have ended, for example because they were killed."""
        with suppress(OSError):
            for folder in [Path(entry.path) for entry in os.scandir(self.root) if entry.is_dir()]:
                leftovers.sweep(folder)
        lock.sweep(self.root / LOCKS)

    @contextmanager
    def locked(self, kind: str, key: Mapping[str, Any]) -> Iterator[None]:
        """Hold the lock of an entry within the block, so that no other process computes it.

        The block sees every entry of this kind that other processes finished before.
        """
        with lock.held(self.root / LOCKS / f"{kind}-{self.path(kind, key).name}"):
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
    work = leftovers.temporary(path.parent)
    try:
        work.mkdir()
        fill(work)
        try:
            os.rename(work, path)
        except OSError:
            _refresh(path.parent)
            if leftovers.identity_of(path) is None:
                raise
    finally:
        leftovers.delete(work)


def _link(source: str, target: str) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _refresh(folder: Path) -> None:
    """Make a network file system read the content of a folder from its server, instead of from its cache."""
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))
