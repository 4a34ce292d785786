"""Writes the tables and the report of a run, and shows the board."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.board import tables as board_tables
from bench.cells.executor import Executor
from bench.core.results import CellResult
from bench.core.text.terminal import say
from bench.engines.base import adopt
from bench.engines.run_folder import machines
from bench.plan.board_name import board_name
from bench.plan.plan import Plan
from bench.report import cell_warnings, markdown, terminal

log = logging.getLogger(__name__)


def collect(plan: Plan) -> tuple[Executor, list[CellResult]]:
    """The stored results of a plan's cells, and the executor (for this machine or a cluster's node) that finds most."""
    executor = Executor(plan)
    results = [executor.outcomes.stored(cell) for cell in plan.cells]
    for machine in machines(plan.run.out):  # nodes of a cluster: the one with the most results is used
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
        tables: the tables in the files.
        title: title of the board.
        endings: the names of the other files without their stem.
        warnings: sentences about the cells.
    """

    path: Path
    tables: board_tables.Tables
    title: str
    endings: tuple[str, ...]
    warnings: tuple[str, ...]


def write(plan: Plan, executor: Executor, results: list[CellResult]) -> Written:
    """Write the tables and the report of a run into its folder. If the report fails, a warning is logged."""
    note = "quick" if plan.run.quick else "full"
    how = f"quick: {plan.images(plan.concepts[0])} images a concept; " if plan.run.quick else ""
    stem = board_name(plan)
    title = f"{plan.run.suite} on {plan.world.name}; {how}tasks: {len(plan.tasks)}"
    warnings = tuple(cell_warnings.sentences(results))
    texts: dict[str, str | None] = {}

    def reports(tables: board_tables.Tables) -> dict[str, str | None]:
        texts[".md"] = markdown.table(tables.board, plan.metrics, title, warnings)
        texts[".html"] = None  # without a report, that of the board that was replaced is removed
        try:
            from bench.report.page import document  # slow to import

            texts[".html"] = document.render(executor, results, tables)
        except Exception as error:  # the tables are valid without the report
            log.warning("no report was written: %s: %s", type(error).__name__, error, exc_info=True)
        return texts

    description = executor.context.description
    tables = board_tables.write(results, plan.metrics, plan.run.out, stem, note, description, reports)
    further = {"-curve.csv": tables.curve, "-recovery.csv": tables.recovered}
    more = ["-cells.csv", "-concepts.csv", *(end for end, table in further.items() if len(table)), ".md", ".json"]
    more = [".html", *more] if texts[".html"] is not None else more
    return Written(plan.run.out / f"{stem}.csv", tables, title, tuple(more), warnings)


def finish(plan: Plan, executor: Executor, results: list[CellResult], console: Console, took: str = "") -> bool:
    """Write the tables, show the board and print the paths. Returns whether every cell has a result."""
    made = write(plan, executor, results)
    shown = terminal.show(
        made.tables.board, plan.metrics, made.title + took, console.width, made.warnings, console.encoding
    )
    console.print(shown)
    stem = made.path.name.removesuffix(".csv")
    say(console, ", ".join([f"written: {made.path}", *(f"{stem}{end}" for end in made.endings)]))
    return all(result.ok for result in results)
