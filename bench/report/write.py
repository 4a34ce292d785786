"""From results to files and a screen: tables, the report, the board."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.board import tables as board_tables
from bench.cells.executor import Executor
from bench.core.results import CellResult
from bench.engines.base import adopt
from bench.engines.run_folder import machines
from bench.plan.board_name import board_name
from bench.plan.plan import Plan
from bench.report import markdown, terminal

log = logging.getLogger(__name__)


def collect(plan: Plan) -> tuple[Executor, list[CellResult]]:
    """What the store has of a plan's cells, and what sees it: as this machine, or as the nodes that computed it."""
    executor = Executor(plan)
    results = [executor.outcomes.stored(cell) for cell in plan.cells]
    for machine in machines(plan.run.out):  # of nodes, where runs were spread over some: whose results are most
        if all(result.ok for result in results):
            break
        other = Executor(plan)
        adopt(other, machine)
        found = [other.outcomes.stored(cell) for cell in plan.cells]
        if sum(r.ok for r in found) > sum(r.ok for r in results):
            executor, results = other, found
    return executor, results


@dataclass(frozen=True)
class Written:
    """A board that was just written.

    Args:
        path: the table of methods, STEM.csv.
        tables: what the files hold.
        title: what the board is about, for people.
        endings: what follows the stem in the names of the other files.
    """

    path: Path
    tables: board_tables.Tables
    title: str
    endings: tuple[str, ...]


def write(plan: Plan, executor: Executor, results: list[CellResult]) -> Written:
    """Write the tables and the report of a run into its folder; a report that can't be made is left out."""
    note = "quick" if plan.run.quick else "full"
    how = f"quick: {plan.images(plan.concepts[0])} images a concept; " if plan.run.quick else ""
    stem = board_name(plan)
    tables = board_tables.write(results, plan.metrics, plan.run.out, stem, note, executor.outcomes.description)
    title = f"{plan.run.suite} on {plan.world.name}; {how}tasks: {len(plan.tasks)}"
    board_tables.replace(plan.run.out / f"{stem}.md", markdown.table(tables.board, plan.metrics, title))
    further = {"-curve.csv": tables.curve, "-recovery.csv": tables.recovered}
    more = ["-cells.csv", "-concepts.csv", *(end for end, table in further.items() if len(table)), ".md", ".json"]
    try:
        from bench.report.page import document  # charts and templates take a second to import; tables need none of it

        board_tables.replace(plan.run.out / f"{stem}.html", document.render(executor, results, tables))
        more.insert(0, ".html")
    except Exception as error:  # the tables stand without it
        (plan.run.out / f"{stem}.html").unlink(missing_ok=True)  # of the board that this one replaces
        log.warning("no report was written: %s: %s", type(error).__name__, error, exc_info=True)
    return Written(plan.run.out / f"{stem}.csv", tables, title, tuple(more))


def finish(plan: Plan, executor: Executor, results: list[CellResult], console: Console, took: str = "") -> bool:
    """Write the tables, show the board, say where it is. Returns whether every cell has a result."""
    made = write(plan, executor, results)
    console.print(terminal.show(made.tables.board, plan.metrics, made.title + took, console.width))
    stem = made.path.name.removesuffix(".csv")
    written = ", ".join([f"written: {made.path}", *(f"{stem}{end}" for end in made.endings)])
    console.print(written, highlight=False, soft_wrap=True)
    return all(result.ok for result in results)
