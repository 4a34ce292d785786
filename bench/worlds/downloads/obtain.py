"""Gets published files into the data folder: downloads, verifies and unpacks them, or says what to put where."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from bench.core.text.terminal import Description, say
from bench.worlds.downloads.fetch import FetchError, digest, fetch
from bench.worlds.downloads.source import Source

Unpack = Callable[[Source, Path], None]  # (source, its file) -> None; raises FetchError, OSError or TarError
NAMED = 12  # at most so many missing files are printed with their addresses


def obtain(
    missing: Sequence[Source],
    data: Path,
    console: Console,
    download: bool = True,
    unpack: Unpack | None = None,
    stop: bool = False,
) -> list[Source]:
    """Download and unpack files, and print the progress on `console`.

    If the user put a file into its place, the file is verified, unpacked and kept. A downloaded archive is deleted
    after it is unpacked. If `download` is False, the disk is too full or a download fails, the URL and the path of each
    file that is still missing are printed.

    Args:
        missing: the files.
        data: the data folder.
        console: where messages and progress are printed.
        download: whether files may be downloaded.
        unpack: unpacks a packed file. None: `unpack_archive`.
        stop: whether to give up all further files after a failure, because they would fail too.

    Returns the files that are still missing.
    """
    if download and missing and (short := _too_little_room(data, missing)):
        say(console, (short, "bold"))
        download = False
    left: list[Source] = []
    for source in missing:
        if (stop and left) or not _obtain(source, data, console, download, unpack or unpack_archive):
            left.append(source)
    if left:
        say(console, ("\nStill to be had; put each file where it is said to go, then run this again:", "bold"))
        for source in left[:NAMED]:
            say(console, f"  {source.url}\n    as {source.place(data)}, {decimal(source.size)}")
        if len(left) > NAMED:
            say(console, f"  and {len(left) - NAMED} more files beside the last one")
    return left


def _too_little_room(data: Path, missing: Sequence[Source]) -> str | None:
    """A message if the disk has too little free space, else None.

    The missing files need the space of their unpacked contents and of the largest archive.
    """
    data.mkdir(parents=True, exist_ok=True)
    needed = sum(source.size for source in missing) + max(source.size for source in missing)
    free = shutil.disk_usage(data).free
    if free >= needed:
        return None
    return f"{data} has {decimal(free)} free and about {decimal(needed)} are needed: nothing is downloaded"


def _obtain(source: Source, data: Path, console: Console, download: bool, unpack: Unpack) -> bool:
    """Download `source`, unless its file exists, and unpack it.

    Returns True after a success. Returns False after a failure, whose message it prints, and also if the file is
    missing and `download` is False.
    """
    file = source.place(data)
    placed = file.is_file()
    try:
        if placed and source.sha256 is not None and (found := digest(file)) != source.sha256:
            raise FetchError(f"{file}: has sha256 {found}, expected {source.sha256}; it is left as it is")
        if not placed:
            if not download:
                return False
            _download(source, file, console)
        if source.packed:
            say(console, f"unpacking {file}")
            unpack(source, file)
            if not placed:
                file.unlink()
    except (FetchError, OSError, tarfile.TarError, EOFError) as error:
        say(console, (str(error), "red"))
        return False
    return True


def _download(source: Source, file: Path, console: Console) -> None:
    columns = (Description(), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = None

        def told(have: int, total: int | None) -> None:
            nonlocal task
            if task is None:  # bytes of an earlier download must not count for the speed of this one
                task = progress.add_task(source.file, completed=have, total=total)
            progress.update(task, completed=have, total=total)

        fetch(source.url, file, source.sha256, told)


def unpack_archive(source: Source, file: Path) -> None:
    """Unpack the archive `file`, and then move its contents (`source.gives`) into the archive's folder.

    If unpacking fails, nothing is moved. Raises FetchError if the archive lacks a part of `source.gives`. Raises
    OSError or TarError if the archive can't be read or written out.
    """
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=file.parent) as scratch:
        with tarfile.open(file) as archive:
            archive.extractall(scratch, filter="data")
        absent = [name for name in source.gives if not Path(scratch, name).exists()]
        if absent:
            held = ", ".join(sorted(os.listdir(scratch))) or "nothing"
            raise FetchError(f"{file}: holds {held}; expected {' and '.join(source.gives)}")
        for name in source.gives:
            os.replace(Path(scratch, name), file.parent / name)
