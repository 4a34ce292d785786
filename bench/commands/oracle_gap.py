"""The command `gap`: compares each method with the oracle, a model that was trained without the concept."""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.board import clusters, csv_files, statistics
from bench.board.statistics import Interval
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.registry import nearest
from bench.plan import plugins
from bench.report.markdown import escaped, line
from methods import ORACLE
from metrics import METRICS

ABOUT = """\
Compare each method with the oracle, a model that was trained without the concept.
The figures come from the cells of a board that has an oracle.

The comparison uses the tasks of the oracle and the same training seeds. The row of
the oracle has means with their 95 % intervals over tasks. Every other row has the
mean difference from the oracle, cell by cell. Differences of percentages are in
percentage points. A difference is bold if its interval does not contain 0. With few
tasks, other differences may be real too. A row is blank if one of its cells is not
finished. On boards whose models are trained further (resurgence), a figure is the
mean over all data that the models are trained on."""
EPILOG = """\
example:
  python run_bench.py gap leaderboards/reference/finegrained-pocket-cells.csv"""
USUAL = ("ua", "nra", "ora", "twin", "fid", "drift", "mi")  # shown by default, if the board has them


def paired(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Method -> its cells of those tasks for which the oracle has finished all its seeds.

    A method for which one of these cells is not finished has an empty table. Raises ValueError if there is no such
    task.
    """
    own = cells[cells["method"] == ORACLE]
    done = own[own["status"] == "ok"].groupby("task")["seed"].nunique()
    tasks = done.index[done == own["seed"].nunique()]
    if not len(tasks):
        raise ValueError("the oracle has no task with all cells finished, so there is nothing to compare with")
    there = cells[cells["task"].isin(tasks) & cells["seed"].isin(own["seed"])]
    count = len(there[there["method"] == ORACLE])
    found = {str(name): rows for name, rows in there.groupby("method", sort=False)}
    return {
        name: rows if len(rows) == count and clusters.whole(rows) else rows.iloc[:0] for name, rows in found.items()
    }


def gap(method: pd.DataFrame, oracle: pd.DataFrame, name: str) -> Interval:
    """The difference of a metric between a method and the oracle: mean and 95 % interval, in the unit of boards.

    Args:
        method, oracle: the cells of both, from `paired`.
        name: name of the metric.

    The mean is NaN if the metric has no value in one of the cells.
    """
    if not len(method) or method[name].isna().any() or oracle[name].isna().any():
        return statistics.NONE
    theirs, its = (statistics.clusters(clusters.pooled(rows, [name])) for rows in (method, oracle))
    low, high = clusters.limits(METRICS.get(name))
    return statistics.interval(theirs - its, low=low - high, high=high - low)


def table(cells: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Rows of text: the names of the columns, the oracle's figures, then the differences of each other method.

    Args:
        cells: the cells of a board, from its `-cells.csv`.
        names: names of metrics that are columns of `cells`.

    Raises ValueError as `paired` does.
    """
    found, metrics = paired(cells), [METRICS.get(name) for name in names]
    own = found.pop(ORACLE)
    figures = [statistics.NONE if own[n].isna().any() else clusters.figure(own, n) for n in names]
    rows = [["method", *(f"{m.name.upper()} {m.unit}".strip() for m in metrics)]]
    rows.append([ORACLE, *(_text(one, m.column.digits, "") for one, m in zip(figures, metrics, strict=True))])
    for method, theirs in found.items():
        away = [gap(theirs, own, name) for name in names]
        rows.append([escaped(method), *(_bold(one, m.column.digits) for one, m in zip(away, metrics, strict=True))])
    return rows


def _bold(of: Interval, digits: int) -> str:
    said = _text(of, digits, "+")
    return f"**{said}**" if of.low > 0 or of.high < 0 else said


def _text(of: Interval, digits: int, sign: str) -> str:
    if math.isnan(of.mean):
        return ""
    ends = "" if math.isnan(of.low) else f" ({of.low:{sign}.{digits}f}..{of.high:{sign}.{digits}f})"
    return f"{of.mean:{sign}.{digits}f}{ends}"


def read(file: Path, asked: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table of cells in `file`, and the names of the metrics to show.

    Args:
        file: a board's `-cells.csv`.
        asked: names or patterns of metrics; empty for the default.

    Raises FileNotFoundError, and ValueError if the file is not a table of cells or lacks a metric.
    """
    if not file.is_file():
        there = "a folder" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"{file}: {there}; a run writes BOARD-cells.csv beside its board")
    try:
        cells = csv_files.read(file)
    except ValueError as error:  # pandas' errors are subclasses of it
        raise ValueError(f"{file}: not a table ({error})") from None
    if lacking := [name for name in ("method", "task", "seed", "status") if name not in cells]:
        raise ValueError(f"{file}: has no column {lacking[0]!r}, so it is not the -cells.csv of a board")
    if ORACLE not in set(cells["method"]):
        raise ValueError(f"{file}: has no row of the oracle; docs/pocket.md lists the concepts that have an oracle")
    has = [name for name in METRICS.names() if name in cells]
    asked = [name for each in asked for name in (fnmatch.filter(has, each) or [each])]
    if unknown := [name for name in asked if name not in has]:
        raise ValueError(f"{file}: has no metric {unknown[0]!r}: {nearest(unknown[0], has)}")
    return cells, list(asked) or [name for name in USUAL if name in has]


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `gap`."""
    p.add_argument("cells", type=Path, metavar="FILE", help="a board's BOARD-cells.csv")
    p.set_defaults(metrics=[])
    p.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME",
        help=f'names, or patterns such as "pid_*" (default: {" ".join(USUAL)})',
    )  # fmt: skip
    arguments.add_flags(p, RunConfig, ("plugins",))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Print a Markdown table. Returns 0."""
    with arguments.refusing():
        plugins.load(arguments.run_config(args).plugins)
        heads, *rows = table(*read(args.cells, args.metrics))
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        sys.stdout.write(f"{line(row)}\n")
    return 0
