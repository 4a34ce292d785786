"""The command `ls`, which lists what is installed, and the table of cells of the command `plan`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from bench.cells import estimate
from bench.cells.artifacts import Artifacts, Context
from bench.cells.outcomes import Outcomes
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.text.terminal import Plain
from bench.engines import ENGINES
from bench.plan import plugins
from bench.plan.plan import Plan
from bench.suites import SUITES, Suite
from bench.worlds import WORLDS, World, WorldUnavailable
from methods import METHODS
from metrics import COSTS, METRICS

MAX_LISTED_CELLS = 300  # a plan with more cells is summarised by method
Rows = list[tuple[str, ...]]  # the first row has the names of the columns

KINDS = ("methods", "suites", "worlds", "metrics", "executors")
ABOUT = """\
List the entries of one kind, one line each: name, description, source. Entries
from the files of --plugin are included. A suite shows its number of tasks in the
world of --world."""
EPILOG = "examples:\n  python run_bench.py ls methods\n  python run_bench.py ls suites --world natural"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `ls`."""
    p.add_argument("kind", choices=KINDS, help=f"one of {', '.join(KINDS)}", metavar="KIND")
    arguments.add_flags(p, RunConfig, ("world", "plugins"))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Print the list. Returns 0."""
    with arguments.refusing():
        run = arguments.run_config(args)
        plugins.load(run.plugins)
        console.print(listing(args.kind, WORLDS.get(run.world)))
    return 0


def listing(what: str, world: World) -> Table:
    """The table of all entries of one kind.

    Args:
        what: one of KINDS.
        world: the world in which the tasks of suites are counted.
    """
    kinds = {"methods": _methods, "metrics": _metrics, "worlds": _worlds, "executors": _executors}
    columns, *rows = kinds.get(what, lambda: _suites(world))()
    table = Table(title=what, box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        justify: JustifyMethod = "right" if rows and rows[0][i].isdigit() else "left"
        table.add_column(Plain(column), no_wrap=i == 0, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(Plain, row))
    return table


def _methods() -> Rows:
    found = {name: METHODS.get(name) for name in plugins.usable(METHODS)}
    columns = ("name", "about", "source", "fidelity", "tags")
    return [columns, *((n, m.about, m.source, m.fidelity, ", ".join(m.tags)) for n, m in found.items())]


def _metrics() -> Rows:
    found = {name: METRICS.get(name) for name in plugins.usable(METRICS)}
    rows = [(name, m.about, m.source, f"{m.unit} {m.column.arrow}".strip()) for name, m in found.items()]
    counted = [
        (cost.name, cost.about, "counted by the harness; on every board", f"{cost.unit} {cost.column.arrow}")
        for cost in COSTS
    ]
    return [("name", "about", "source", "unit, better"), *rows, *counted]


def _executors() -> Rows:
    return [("name", "about"), *((name, ENGINES.get(name).about) for name in ENGINES.usable())]


def _suites(world: World) -> Rows:
    found = {name: SUITES.get(name) for name in plugins.usable(SUITES)}
    rows = [(name, suite.about, suite.source, _count(suite, world)) for name, suite in found.items()]
    return [("name", "about", "source", f"tasks in {world.name}"), *rows]


def _count(suite: Suite, world: World) -> str:
    try:
        return str(len(suite.tasks(world)))
    except ValueError:  # the world has no concept that the suite can forget
        return "none"
    except WorldUnavailable:
        return "needs its data"


def _worlds() -> Rows:
    found = {name: WORLDS.get(name) for name in plugins.usable(WORLDS)}
    rows = [
        (name, world.about, *(str(len(part)) for part in (world.domains, world.concepts, world.styles)))
        for name, world in found.items()
    ]
    return [("name", "about", "domains", "concepts", "styles"), *rows]


def planned(plan: Plan, workers: int, encoding: str = "utf-8") -> Table:
    """The table of a run's cells, their stored stages and the estimated time for the others.

    Args:
        workers: number of cells that run in parallel.
        encoding: encoding of the terminal.
    """
    artifacts = Artifacts(Context(plan))
    outcomes = Outcomes(artifacts)  # it loads no judge if the store is empty
    past = estimate.Past(outcomes)
    cells = estimate.ahead(outcomes, past)
    table = Table(
        title=Plain(f"backbone {plan.folder}").text(encoding),
        caption=Plain(estimate.summary(cells, past, workers), lines=True).text(encoding),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    add = _each if len(cells) <= MAX_LISTED_CELLS else _by_method
    for i, name in enumerate(add(table, cells)):
        table.columns[i].header = name
        table.columns[i].overflow = "fold"
    return table


def _each(table: Table, cells: Sequence[estimate.Ahead]) -> tuple[str, ...]:
    for a in cells:
        words = ["stored" if there else "to do" for there in (a.weights, a.images, a.result)]
        seconds = "not known" if a.seconds is None else f"{'' if a.weights else '~'}{a.seconds:.1f}"
        table.add_row(*map(Plain, (a.cell.name, *words, seconds)))
    table.columns[-1].justify = "right"
    return "cell", "unlearning", "images", "result", "s to unlearn"


def _by_method(table: Table, cells: Sequence[estimate.Ahead]) -> tuple[str, ...]:
    for name in dict.fromkeys(a.cell.method for a in cells):
        own = [a for a in cells if a.cell.method == name]
        stages = zip(*((a.weights, a.images, a.result) for a in own), strict=True)
        counts = [sum(map(bool, stage)) for stage in stages]
        known = [a.seconds for a in own if a.seconds is not None]
        seconds = f"~{median(known):.1f}" if known else "not known"
        table.add_row(*map(Plain, (name, str(len(own)), *map(str, counts), seconds)))
    for column in table.columns[1:]:
        column.justify = "right"
    return "method", "cells", "unlearning stored", "images stored", "results stored", "s to unlearn"
