"""The files that a plug-in declares in its attribute `files`. Cache keys contain their contents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.core import digest

FORM = "it must be a path or a tuple of paths"


def listed(owner: str, declared: Any) -> tuple[Path, ...]:
    """The declared files and folders. A relative path starts at the current folder, as it does for `open`.

    Args:
        owner: the plug-in's entry, for messages: "method 'mine'".
        declared: a path, or an iterable of paths; texts are paths.

    Raises ValueError for anything else, and FileNotFoundError for a path that does not exist.
    """
    if isinstance(declared, (str, Path)):
        declared = (declared,)
    if not isinstance(declared, Iterable):
        raise ValueError(f"{owner}: files is {declared!r}; {FORM}")
    paths = tuple(declared)
    if wrong := [one for one in paths if not isinstance(one, (str, Path)) or not str(one)]:
        raise ValueError(f"{owner}: files has {wrong[0]!r}; {FORM}")
    if missing := [one for one in paths if not Path(one).exists()]:
        raise FileNotFoundError(f"{owner} declares the file {missing[0]}, but there is no such file or folder")
    return tuple(map(Path, paths))


def digests(paths: Iterable[Path]) -> list[str]:
    """The digest of each file's bytes, and of the relative paths and bytes of each folder's files.

    Raises FileNotFoundError for a folder without files, and OSError for a file that can't be read.
    """
    return [digest.of_folder(path) if path.is_dir() else digest.of_file(path) for path in paths]
