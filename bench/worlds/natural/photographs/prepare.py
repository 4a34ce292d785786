"""Getting the photographs: what is there, what is missing, the download, and whether all of it can be read."""

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
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs import layouts, reader
from bench.worlds.natural.photographs.fetch import FetchError, digest, fetch
from bench.worlds.natural.photographs.sources import PICTURES, SOURCES, TITLES, Source


def prepare(data: Path, console: Console, download: bool = True, sources: Sequence[Source] = SOURCES) -> bool:
    """Bring the three data sets under `data` and check them, saying all of it on `console`; True if all can be read.

    What lies there already is left alone. An archive that was put in its place by hand is verified, unpacked and kept;
    a downloaded one goes once it is unpacked. With `download` False, or where a download fails, it says of each missing
    file what to put where. Pictures are counted, not opened.
    """
    missing = []
    for source in sources:
        there = source.there(data)
        _say(console, f"{TITLES[source.domain]}: {' and '.join(source.gives)} {'there' if there else 'missing'}")
        missing += [] if there else [source]
    if download and missing and (short := _too_little_room(data, missing)):
        _say(console, short, "bold")
        download = False
    left = [source for source in missing if not _obtain(source, data, console, download)]
    if left:
        _say(console, "\nStill to be had; put each file where it is said to go, then run this again:", "bold")
        for source in left:
            _say(console, f"  {source.url}\n    as {_file(source, data)}, {decimal(source.size)}")
    return _verify(data, console)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)  # a path that wraps can't be copied


def _file(source: Source, data: Path) -> Path:
    return data / source.folder / source.file


def _too_little_room(data: Path, missing: Sequence[Source]) -> str | None:
    """What to say where the disk won't hold what is missing, unpacked, and the largest archive beside it."""
    data.mkdir(parents=True, exist_ok=True)
    needed = sum(source.size for source in missing) + max(source.size for source in missing)
    free = shutil.disk_usage(data).free
    if free >= needed:
        return None
    return f"{data} has {decimal(free)} free and about {decimal(needed)} are needed: nothing is downloaded"


def _obtain(source: Source, data: Path, console: Console, download: bool) -> bool:
    """Download `source` unless its file is there, and unpack it; False, and said why, where that fails."""
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
            _say(console, f"unpacking {file}")
            _unpack(source, file)
            if not placed:
                file.unlink()
    except (FetchError, OSError, tarfile.TarError, EOFError) as error:
        _say(console, str(error), "red")
        return False
    return True


def _download(source: Source, file: Path, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = None

        def told(have: int, total: int | None) -> None:
            nonlocal task
            if task is None:  # what an earlier download left must not count towards the speed of this one
                task = progress.add_task(source.file, completed=have, total=total)
            progress.update(task, completed=have, total=total)

        fetch(source.url, file, source.sha256, told)


def _unpack(source: Source, file: Path) -> None:
    """What the archive gives comes to lie beside it at once, or not at all. Raises FetchError, OSError, TarError."""
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
    """Read all three, and say of each how that went."""
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
                _say(console, f"{error} What is there is left alone: delete what is damaged to have it anew.", "red")
            table.add_row(TITLES[domain], "", "", "", "can't be read" if where.exists() else "missing", str(where))
            continue
        counts = len(photos.train), len(photos.test)
        official = PICTURES[domain]
        state = "complete" if counts == official else f"a part: officially {official[0]} / {official[1]}"
        classes = str(len(photos.labels))
        table.add_row(TITLES[domain], str(sum(counts)), classes, f"{counts[0]} / {counts[1]}", state, str(where))
    console.print(table)
    return ready
