"""Preparation of the photographs: find missing files, download and unpack them, and check that all can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.core.text.terminal import Plain, say
from bench.worlds.base import WorldUnavailable
from bench.worlds.downloads.obtain import obtain
from bench.worlds.downloads.source import Source
from bench.worlds.natural.photographs import layouts, reader
from bench.worlds.natural.photographs.sources import PICTURES, SOURCES, TITLES


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
    obtain(missing, data, console, download)
    return _verify(data, console)


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
