"""Checks that UnlearnCanvas's files are in place. Its releases have no stable address for a download."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.core.text.terminal import Plain, say
from bench.worlds import models
from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas import dataset, judges
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS

BACKBONE = (
    "The backbone is UnlearnCanvas's fine-tuned Stable Diffusion, --backbone DIR; its release is linked from "
    "github.com/OPTML-Group/UnlearnCanvas."
)


def prepare(data: Path, console: Console) -> bool:
    """Look for the data set and the two classifiers in `data`, and print what is missing. Returns whether all exist.

    Images are counted, not opened. Classifiers are not loaded.
    """
    table = Table("what", "state", box=box.SIMPLE_HEAD)
    table.add_column("where", overflow="fold")
    problems = []
    try:
        dataset.verify(data)
        count = len(STYLE_LABELS) * len(OBJECTS) * dataset.PER_FOLDER
        table.add_row("data set", f"{count} pictures", Plain(str(data / "{style}" / "{object}" / "{1..20}.jpg")))
    except WorldUnavailable as error:
        problems.append(str(error))
        table.add_row("data set", "missing or incomplete", Plain(str(data)))
    for kind in judges.LABELS:
        try:
            table.add_row(f"judge of {kind}s", "there", Plain(str(judges.locate(data, kind))))  # type: ignore[arg-type]
        except WorldUnavailable as error:
            problems.append(str(error))
            table.add_row(f"judge of {kind}s", "missing", Plain(str(data / judges.FOLDERS[0] / judges.FILES[kind])))
    for problem in problems:
        say(console, (problem, "red"))
    console.print(table)
    models.show([models.features(data)], console)
    say(console, BACKBONE)
    return not problems
