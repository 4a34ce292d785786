"""Finished stages on disk, addressed by what determines them.

An entry is a folder `KIND/KEY16` with `record.json` (the full key, facts about the computation, digests of the
other files) and, where the stage has tensors, `tensors.safetensors`, until these are given up (`Store.thin`). It is
written beside its place and moved there in one step, so a killed run leaves no half entry, and two processes that
compute the same stage agree.
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
FORMAT = ".format"  # in a store that no release 0.1 wrote to, whose keys were others


class TensorsDiscarded(LookupError):
    """Tensors that were wanted again after they had been given up to save space."""


@dataclass(frozen=True)
class Entry:
    """A finished stage. `content` is the digest of its tensors' file, or "" where it never had one."""

    path: Path
    facts: dict[str, Any]
    content: str

    def tensors(self, *names: str) -> dict[str, torch.Tensor]:
        """The stage's tensors, on the CPU: those called `names`, or all; empty where it has none.

        Raises TensorsDiscarded where it had some that are no longer kept.
        """
        file = self.path / TENSORS
        if not file.exists():
            if self.content:
                raise TensorsDiscarded(f"{self.path} no longer has its tensors")
            return {}
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in names or stored.keys()}


class Store:
    """Content-addressed stages under one folder. Safe to share between processes and, on a network, between hosts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._begun = False  # whether it is known to have its FORMAT, or to be older

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the stage lies or would lie."""
        return self.root / kind / digest.of_json(key)[:16]

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the stage is there, sound or not: nothing of it is read."""
        return self.path(kind, key).exists()

    def get(self, kind: str, key: Mapping[str, Any], verify: bool = True) -> Entry | None:
        """The stage if it is there and sound. A damaged entry is reported, removed and taken as absent.

        With verify=False its tensors are not read, for callers that need none of them.
        """
        path = self.path(kind, key)
        if not path.exists():
            return None
        try:
            try:
                record, content = _read(path, verify)
            except FileNotFoundError:  # given up, or dropped and made again, between two looks
                record, content = _read(path, verify)
            if content != record["content"]:
                raise ValueError(f"{TENSORS} has digest {content[:16]}, {record['content'][:16]} was written")
            if record["key"] != digest.plain(key):
                raise ValueError("it holds another key")
        except (FileNotFoundError, ValueError, KeyError) as error:  # not any OSError: a file system may be away
            if not path.exists():
                return None
            log.warning("damaged stage %s (%s): removed, will be computed again", path, error)
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
        """Write a stage and return it; if another process was faster, return its entry, which is as good.

        `texts` are files for people, by name, that lie beside the record and are in no digest.
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
        _place(path, fill)
        entry = self.get(kind, key)
        if entry is None:
            raise OSError(f"stage {path} could not be read back after it was written")
        return entry

    def record(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """A stage's record, as another store can `receive` it; None where there is no such stage."""
        entry = self.get(kind, key, verify=False)
        return None if entry is None else {"key": digest.plain(key), "facts": entry.facts, "content": entry.content}

    def import_record(self, kind: str, record: Mapping[str, Any]) -> bool:
        """Take over a stage of another store by its `record`, without its tensors: as if they had been given up.

        Returns False where the stage is there already, which then stays as it is.
        """
        path = self.path(kind, record["key"])
        if path.exists():
            return False
        whole = {name: record[name] for name in ("key", "facts", "content")}
        thin = {"thin": True} if record["content"] else {}
        if "code" in record["key"]:  # of release 0.1
            (self.root / FORMAT).unlink(missing_ok=True)
        else:
            self._begin()
        _place(path, lambda work: (work / RECORD).write_text(json.dumps({**whole, **thin}, indent=1, allow_nan=False)))
        return True

    def rename(self, kind: str, key: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Give the stage under `key` the key `other`. Returns False where there is none, or one under `other`."""
        path, to = self.path(kind, key), self.path(kind, other)
        if to.exists() or self.get(kind, key, verify=False) is None:
            return False

        def fill(work: Path) -> None:
            shutil.copytree(path, work, dirs_exist_ok=True, copy_function=_link)
            record = json.loads((path / RECORD).read_text())
            (work / RECORD).unlink()  # not the old record's file, which other names may share
            (work / RECORD).write_text(json.dumps({**record, "key": digest.plain(other)}, indent=1, allow_nan=False))

        _place(to, fill)
        shutil.rmtree(path, ignore_errors=True)
        return True

    def may_hold_old_keys(self) -> bool:
        """Whether release 0.1 may have written to this store."""
        return self.root.exists() and not (self.root / FORMAT).exists()

    def _begin(self) -> None:
        if not self._begun:
            self.root.mkdir(parents=True, exist_ok=True)
            if all(path.name.startswith(".") for path in self.root.iterdir()):  # no stage of any release
                (self.root / FORMAT).touch()
            self._begun = True

    def discard_tensors(self, kind: str, key: Mapping[str, Any]) -> None:
        """Give up a stage's tensors, and keep what they were: its facts, and the digest that others are stored under.

        Nothing happens where there is no such stage.
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
        """Whether the stage is there without the tensors that it once had."""
        path = self.path(kind, key)
        try:
            return bool(json.loads((path / RECORD).read_text())["content"]) and not (path / TENSORS).exists()
        except (FileNotFoundError, ValueError, KeyError):
            return False

    def drop(self, kind: str, key: Mapping[str, Any]) -> None:
        """Forget a stage."""
        shutil.rmtree(self.path(kind, key), ignore_errors=True)

    def clear(self, kind: str) -> None:
        """Forget all stages of a kind."""
        shutil.rmtree(self.root / kind, ignore_errors=True)

    @contextmanager
    def locked(self, kind: str, key: Mapping[str, Any]) -> Iterator[None]:
        """Within the block no other process computes the stage, and what others had finished is seen."""
        with held(self.root / ".leases" / f"{kind}-{self.path(kind, key).name}"):
            _see_anew(self.path(kind, key).parent)
            yield

    def stage(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]],
    ) -> Entry:
        """The stage from disk, or computed now: `compute` returns its tensors and facts.

        Of several processes that want the same stage, one computes and the others wait for it: on one machine or on
        several that share the folder (`bench.core.lock`).
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


def _place(path: Path, fill: Callable[[Path], object]) -> None:
    """Have an entry filled beside its place and moved there in one step; whoever is first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        fill(work)
        try:
            os.rename(work, path)
        except OSError:
            _see_anew(path.parent)
            if not path.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _read(path: Path, verify: bool) -> tuple[dict[str, Any], str]:
    """An entry's record, and the digest of its tensors: as found, or without `verify` as written."""
    record = json.loads((path / RECORD).read_text())
    if not verify or not record["content"] or (record.get("thin", False) and not (path / TENSORS).exists()):
        return record, record["content"]
    return record, digest.of_file(path / TENSORS)


def _see_anew(folder: Path) -> None:
    """Have a network file system ask its server what is in a folder, in place of what it remembers."""
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))
