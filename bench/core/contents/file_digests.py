"""Digests of the files of a data set, kept on disk, so that the next run does not read gigabytes again."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core import digest, lock

FOLDER = "lethe"  # folder in the data folder; it holds values that Lethe computes from the data once
NAME = "digests.json"
SAVED_BYTES = 64 * 2**20  # digests are saved after this many new bytes; reading fewer bytes again takes no time
WAIT = 10.0  # seconds to wait for another process that saves; then the digests are saved with the next ones
SETTLED = 2.0  # seconds; the times of two changes that are closer may be equal on some file systems

log = logging.getLogger(__name__)


class FileDigests:
    """Path -> digest of the file's bytes, for the files of one data set.

    A kept digest counts only if the file still has the device, inode, size, and times of modification and change that
    it had. A file that changed within the last `SETTLED` seconds is not kept, because another change may not show.

    Args:
        data: the folder of the data set. The digests are kept in its folder `lethe`.
        fresh: whether to forget the digests that are kept, and to read every file again.
    """

    def __init__(self, data: Path, fresh: bool = False) -> None:
        self._data, self._file = data, data / FOLDER / NAME
        self._kept: dict[str, list[Any]] | None = None  # path in the folder -> state and digest; None: not read yet
        self._unsaved = 0
        if fresh:
            self._kept = {}
            self._remove()

    def __call__(self, path: Path) -> str:
        """The digest of one file. Raises OSError if it can't be read."""
        if self._kept is None:
            self._kept = self._read()
        name, state = os.path.relpath(path, self._data), [*digest.state_of(path)]
        kept = self._kept.get(name)
        if kept and kept[:-1] == state:
            return str(kept[-1])
        file_digest = digest.of_file(path)
        *_, size, modified, changed = state
        if [*digest.state_of(path)] == state and time.time() - max(modified, changed) / 1e9 > SETTLED:
            self._kept[name] = [*state, file_digest]
            self._unsaved += size
            if self._unsaved > SAVED_BYTES:
                self._save()
        return file_digest

    def _read(self) -> dict[str, list[Any]]:
        """The digests on disk; {} with a warning if the file is damaged."""
        try:
            stored = json.loads(self._file.read_text())
            kept: dict[str, list[Any]] = stored["files"]
            if stored["digest"] != digest.of_json(kept):
                raise ValueError("it does not have the digest it was written with")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            log.warning("%s is damaged (%s): the files are read again", self._file, error)
            return {}
        return kept

    def _save(self) -> None:
        self._unsaved = 0
        work = self._file.with_suffix(f".{os.getpid()}.new")
        try:
            with lock.held(self._file.with_suffix(".lock"), WAIT):  # another process may add its digests
                files = {**self._read(), **(self._kept or {})}
                work.write_text(json.dumps({"digest": digest.of_json(files), "files": files}))
                work.replace(self._file)
        except OSError as error:  # the data folder may be read-only, or the disk full
            with suppress(OSError):
                work.unlink(missing_ok=True)
            log.info("%s can't be written (%s): the next run reads the files again", self._file, error)

    def _remove(self) -> None:
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s can't be removed (%s): other processes may still use it", self._file, error)
