"""Preparation of the photographs: find missing files, download and unpack them, and check that all can be read."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from bench.core.text.terminal import Description, Plain, say
from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs import layouts, reader
from bench.worlds.natural.photographs.fetch import FetchError, digest, fetch
from bench.worlds.natural.photographs.sources import PICTURES, SOURCES, TITLES, Source


def prepare(data: Path, console: Console, download: bool = True, sources: Sequence[Source] = SOURCES) -> bool:
    """Download the three data sets into `data`, check them, and print the progress on `console`.

    Files that already exist are not changed. If the user put an archive into its place, the archive is verified,
    unpacked and kept. A downloaded archive is deleted after it is unpacked. If `download` is False or a download fails,
    the function prints the URL and the path of each missing file. The check counts images but does not open them.

    Returns True if all three data sets can be read.
    """
    missing = []
    for source in sources:
        there = source.there(data)
        say(console, f"{TITLES[source.domain]}: {' and '.join(source.gives)} {'there' if there else 'missing'}")
        missing += [] if there else [source]
    if download and missing and (short := _too_little_room(data, missing)):
        say(console, (short, "bold"))
        download = False
    left = [source for source in missing if not _obtain(source, data, console, download)]
    if left:
        say(console, ("\nStill to be had; put each file where it is said to go, then run this again:", "bold"))
        for source in left:
            say(console, f"  {source.url}\n    as {_file(source, data)}, {decimal(source.size)}")
    return _verify(data, console)


def _file(source: Source, data: Path) -> Path:
    return data / source.folder / source.file


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


def _obtain(source: Source, data: Path, console: Console, download: bool) -> bool:
    """Download `source`, unless its file exists, and unpack it.

    Returns True after a success. Returns False after a failure, whose message it prints, and also if the file is
    missing and `download` is False.
    """
    file = _file(source, data)
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
            _unpack(source, file)
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


def _unpack(source: Source, file: Path) -> None:
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


def _verify(data: Path, console: Console) -> bool:
    """Read the three data sets and print a table of their state. Returns True if all of them can be read."""
    table = Table("data set", "pictures", "classes", "train / test", "state", box=box.SIMPLE_HEAD)
    table.add_column("where", overflow="fold")
    ready = True
    for domain in reader.DOMAINS:
        where = data / layouts.ROOTS[domain]
        try:
            photos = reader.read(domain, data)
        except WorldUnavailable as error:
            ready = False
            if where.exists():
                said = f"{error} What is there is left alone: delete what is damaged to have it anew."
                say(console, (said, "red"))
            state = "can't be read" if where.exists() else "missing"
            table.add_row(TITLES[domain], "", "", "", state, Plain(str(where)))
            continue
        counts = len(photos.train), len(photos.test)
        official = PICTURES[domain]
        state = "complete" if counts == official else f"a part: officially {official[0]} / {official[1]}"
        classes = str(len(photos.labels))
        table.add_row(TITLES[domain], str(sum(counts)), classes, f"{counts[0]} / {counts[1]}", state, Plain(str(where)))
    console.print(table)
    return ready
