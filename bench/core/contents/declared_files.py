"""The files that a plug-in declares in its attribute `files`. Cache keys contain their names and contents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.core import digest
from bench.core.filenames import JUNK_NAMES

UNREAD = {*JUNK_NAMES, ".ds_store"}  # files and folders that operating systems and Python leave; no plug-in reads them
FORM = "it must be a path or a tuple of paths"


def listed(owner: str, declared: Any) -> tuple[Path, ...]:
    """The declared files and folders, sorted. A relative path starts at the current folder, as it does for `open`.

    Args:
        owner: the plug-in's entry, for messages: "method 'mine'".
        declared: a path, or a tuple, list or set of paths; texts are paths.

    Raises ValueError for anything else, also for a path to neither a file nor a folder, and FileNotFoundError for a
    path that does not exist.
    """
    if isinstance(declared, (str, Path)):
        declared = (declared,)
    if not isinstance(declared, Iterable) or isinstance(declared, Iterator):  # an iterator gives its values only once
        raise ValueError(f"{owner}: files is {declared!r}; {FORM}")
    paths = tuple(declared)
    if wrong := [one for one in paths if not isinstance(one, (str, Path)) or not str(one)]:
        raise ValueError(f"{owner}: files has {wrong[0]!r}; {FORM}")
    if missing := [one for one in paths if not os.path.exists(one)]:
        raise FileNotFoundError(f"{owner} declares the file {missing[0]}, but there is no such file or folder")
    if strange := [one for one in paths if not (os.path.isfile(one) or os.path.isdir(one))]:
        raise ValueError(f"{owner} declares {strange[0]}, which is neither a file nor a folder, so it has no content")
    return tuple(sorted(map(Path, paths)))  # sets have another order in each process


def of_entry(owner: str, entry: Any) -> list[list[str]]:
    """The `digests` of the files that a metric or a world declares. Raises the errors of `listed` and `digests`."""
    return digests(owner, listed_of(owner, entry))


def listed_of(owner: str, entry: Any) -> tuple[Path, ...]:
    """The files that a metric or a world declares, as `listed` returns them, with its errors.

    Raises ValueError also if a property `files` raises an exception.
    """
    try:
        declared = entry.files
    except Exception as error:
        raise ValueError(f"{owner}: its files can't be had: {type(error).__name__}: {error}") from error
    return listed(owner, declared)


def digests(owner: str, paths: Iterable[Path]) -> list[list[str]]:
    """Name and digest of each file, and of each folder, whose digest has the relative paths and bytes of its files.

    Links are followed, and hidden files count, since a plug-in may read them. Of a folder only `UNREAD` does not count.

    Raises FileNotFoundError for a folder without files, and ValueError for a path that can't be read.
    """
    found = []
    for path in paths:
        try:
            content = _of_folder(path) if path.is_dir() else digest.of_file(path)
        except OSError as error:
            raise ValueError(f"{owner} declares {path}, which can't be read: {error}") from error
        if content is None:
            raise FileNotFoundError(f"{owner} declares the folder {path}, but there are no files in it")
        found.append([path.name, content])
    return found


def _of_folder(folder: Path) -> str | None:
    """The digest of a folder's files; None if it has none. Raises OSError if a file or folder can't be read."""
    files = {path.relative_to(folder).as_posix(): digest.of_file(path) for path in _files(folder, frozenset())}
    return digest.of_json(files) if files else None


def _files(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The files in a folder and in its folders; `above` has device and inode of the folders that contain it."""
    state = folder.stat()
    within = above | {(state.st_dev, state.st_ino)}
    if within == above:  # a link to a folder that contains it
        return
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.lower() in UNREAD:
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), within)
        elif entry.is_file():
            yield Path(entry.path)
