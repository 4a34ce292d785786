"""Lists folders of a data set without the files that operating systems and editors leave in them."""

from __future__ import annotations

import logging
import os
from multiprocessing import parent_process
from pathlib import Path

from bench.core.filenames import is_junk

log = logging.getLogger(__name__)
_told: set[Path] = set()  # data folders of which this process has said that they contain junk


def names(folder: Path, data: Path) -> list[str]:
    """The sorted names of the files and folders in `folder`, without junk (`bench.core.filenames.is_junk`).

    The first time that junk is found, a warning says how many junk files the data folder has. Worker processes do not
    repeat it.

    Args:
        folder: the folder to list. It must exist.
        data: the folder of all data sets, which contains `folder`.
    """
    with os.scandir(folder) as entries:
        found = {entry.name: is_junk(entry.name, entry.is_dir()) for entry in entries}
    if any(found.values()) and data not in _told and parent_process() is None:
        _told.add(data)
        junk = _all_junk(data)
        what = "1 file or folder" if len(junk) == 1 else f"{len(junk)} files and folders"
        log.warning("%s: skipped %s of an operating system or an editor, such as %s", data, what, junk[0])
    return sorted(name for name, junk in found.items() if not junk)


def _all_junk(data: Path) -> list[Path]:
    """Every junk file and junk folder below `data`, without the contents of junk folders."""
    junk = []
    for folder, folders, files in os.walk(data):
        junk += [Path(folder, name) for name in files if is_junk(name)]
        junk += [Path(folder, name) for name in folders if is_junk(name, is_folder=True)]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_junk(name, is_folder=True))
    return sorted(junk)
