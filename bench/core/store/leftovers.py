"""Temporary files and folders beside the files that they become, and what killed processes left of them.

The name of a temporary file has the host and the number of the process that made it. So another process on this host
can tell whether the file is still needed.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from bench.core.lock import is_running

PREFIX = ".new-"
DAY = 86400.0  # seconds after which a temporary file of another host counts as left over


def temporary(folder: Path) -> Path:
    """A new path for a temporary file or folder in `folder`, which is created. Nothing exists at the path yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{PREFIX}{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def remove(path: Path, identity: tuple[int, int] | None = None) -> bool:
    """Remove a file, a link or a whole folder in one step, so that no reader sees a part of it.

    Args:
        path: the path. A link is removed, not what it points to.
        identity: `identity_of` the path when it was read; None for any. If another process has replaced the path since
            then, it stays.

    Returns whether the path is gone or was replaced; False if the file system refused to remove it.
    """
    try:
        if (found := identity_of(path)) is None or found != (identity or found):
            return True
        aside = temporary(path.parent)
        os.rename(path, aside)
    except OSError:
        return identity_of(path) is None
    delete(aside)
    return True


def delete(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists. What can't be removed stays."""
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            path.chmod(0o700)  # the content of a folder without permissions can't be listed
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode of a path, of a link itself; None if nothing is there. Raises OSError if that is not known."""
    try:
        stat = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_dev, stat.st_ino


def sweep(folder: Path) -> None:
    """Remove the temporary files in `folder` of processes that have ended.

    On this host these are files of processes that do not exist any more. A file of another host, or of an earlier
    release, is removed if it is older than `DAY`. A clock that was changed by more than a day may let a file of a
    living process be removed; the process then reports an error of the file system, and its cell is tried again.
    """
    with suppress(OSError):
        for found in [entry for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]:
            with suppress(OSError):
                if _is_dead(found.name) or is_old(found):
                    delete(Path(found.path))


def is_old(entry: os.DirEntry[str]) -> bool:
    """Whether a file was last written more than `DAY` ago, or is from a day that is yet to come."""
    return abs(time.time() - entry.stat(follow_symlinks=False).st_mtime) > DAY


def _is_dead(name: str) -> bool:
    host, _, rest = name.removeprefix(PREFIX).rpartition("-")[0].rpartition("-")
    return host == os.uname().nodename and rest.isdecimal() and not is_running(int(rest))
