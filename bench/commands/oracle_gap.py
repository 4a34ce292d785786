"""The command `gap`: how far each method is from a model that never saw the concept, by the cells of a board."""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.board import clusters, statistics
from bench.board.statistics import Interval
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.registry import nearest
from bench.plan import plugins
from bench.report.markdown import line
from methods import ORACLE
from metrics import METRICS

ABOUT = """\
Say how far each method is from the oracle, a model that never saw the concept, by
the cells of a board that has oracles.

Methods are compared with the oracle on the tasks that the oracle has, and with
the same training seeds. The oracle's own row has its figures: means with their
95 % intervals over tasks. Every other row has the difference from the oracle, pair
by pair; differences of shares of images are in points. A difference is bold if its
interval leaves out 0. With few tasks, the other differences may be real too. A row
is blank where one of its cells is not finished. Boards of models that are trained
further (resurgence) mix all that they were trained on."""
EPILOG = """\
example:
  python run_bench.py gap leaderboards/reference/finegrained-pocket-cells.csv"""
USUAL = ("ua", "nra", "ora", "twin", "fid", "drift", "mi")  # those of them that were measured


def paired(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Row of the board -> its cells of the tasks that the oracle has in all its seeds, as many as it has itself.

    None of a row of which one of these is not finished. Raises ValueError where there is no such task.
    """
    own = cells[cells["method"] == ORACLE]
    done = own[own["status"] == "ok"].groupby("task")["seed"].nunique()
    tasks = done.index[done == own["seed"].nunique()]
    if not len(tasks):
        raise ValueError("an oracle has no task with all its cells finished: there is nothing to compare with")
    there = cells[cells["task"].isin(tasks) & cells["seed"].isin(own["seed"])]
    count = len(there[there["method"] == ORACLE])
    found = {str(name): rows for name, rows in there.groupby("method", sort=False)}
    return {
        name: rows if len(rows) == count and clusters.whole(rows) else rows.iloc[:0] for name, rows in found.items()
    }


def gap(method: pd.DataFrame, oracle: pd.DataFrame, name: str) -> Interval:
    """How much a metric of a method exceeds the oracle's: mean and interval, in the unit of boards, % in points.

    Args:
        method, oracle: cells of either, as `paired` has them.

    No value where a cell has none.
    """
    if not len(method) or method[name].isna().any() or oracle[name].isna().any():
        return statistics.NONE
    theirs, its = (statistics.clusters(clusters.pooled(rows, [name])) for rows in (method, oracle))
    low, high = clusters.limits(METRICS.get(name))
    return statistics.interval(theirs - its, low=low - high, high=high - low)


def table(cells: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Rows of text: heads, the oracle's figures, then for each other row of the board what it has more or less.

    Args:
        cells: a board's cells, as in its `-cells.csv`.
        names: metrics among its columns.

    Raises ValueError as `paired`.
    """
    found, metrics = paired(cells), [METRICS.get(name) for name in names]
    own = found.pop(ORACLE)
    figures = [statistics.NONE if own[n].isna().any() else clusters.figure(own, n) for n in names]
    rows = [["method", *(f"{m.name.upper()} {m.unit}".strip() for m in metrics)]]
    rows.append([ORACLE, *(_text(one, m.digits, "") for one, m in zip(figures, metrics, strict=True))])
    for method, theirs in found.items():
        away = [gap(theirs, own, name) for name in names]
        rows.append([method, *(_bold(one, m.digits) for one, m in zip(away, metrics, strict=True))])
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
    """A table of cells, and the metrics asked for, or the usual ones that it has.

    Raises FileNotFoundError, and ValueError for a file that is no table of cells, or that lacks what is asked for.
    """
    if not file.is_file():
        there = "a folder" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"{file}: {there}; a run writes BOARD-cells.csv beside its board")
    try:
        cells = pd.read_csv(file)
    except ValueError as error:  # pandas' own are among them
        raise ValueError(f"{file}: not a table ({error})") from None
    if lacking := [name for name in ("method", "task", "seed", "status") if name not in cells]:
        raise ValueError(f"{file}: has no column {lacking[0]!r}, so it is no board's -cells.csv")
    if ORACLE not in set(cells["method"]):
        raise ValueError(f"{file}: has no row of an oracle; docs/pocket.md says which concepts have one")
    has = [name for name in METRICS.names() if name in cells]
    asked = [name for each in asked for name in (fnmatch.filter(has, each) or [each])]
    if unknown := [name for name in asked if name not in has]:
        raise ValueError(f"{file}: has no metric {unknown[0]!r}: {nearest(unknown[0], has)}")
    return cells, list(asked) or [name for name in USUAL if name in has]


def add_flags(p: argparse.ArgumentParser) -> None:
    """The flags of `gap`."""
    p.add_argument("cells", type=Path, metavar="FILE", help="a board's BOARD-cells.csv")
    p.set_defaults(metrics=[])
    p.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME",
        help=f'names, or patterns as "pid_*" (default: {" ".join(USUAL)})',
    )  # fmt: skip
    arguments.add_flags(p, RunConfig, ("plugins",))


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Print a Markdown table."""
    with arguments.refusing():
        plugins.load(arguments.run_config(args).plugins)
        heads, *rows = table(*read(args.cells, args.metrics))
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        sys.stdout.write(f"{line(row)}\n")
    return 0
