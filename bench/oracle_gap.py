"""How far each method is from a model that never saw the concept, by the cells of a board that has such models.

python -m bench.oracle_gap leaderboards/finegrained-pocket-cells.csv

Methods are compared with the oracle on the tasks that it has and with the same training seeds, pair by pair. Its own
row has its figures; every other one has how much a method exceeds it, and the 95 % interval of that over tasks. Where
that holds 0 the two don't separate, which with few tasks says little.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench import clusters, statistics
from bench.registry import nearest
from bench.statistics import Interval
from methods import ORACLE
from metrics import METRICS

USUAL = ("ua", "nra", "ora", "twin", "fid", "drift", "mi")  # those of them that were measured


def paired(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the tasks and seeds that the oracle has, of methods all of whose cells there are finished.

    Raises ValueError where no oracle's cell is finished.
    """
    own = cells[(cells["method"] == ORACLE) & (cells["status"] == "ok")]
    if own.empty:
        raise ValueError("no finished cell of an oracle: there is nothing to compare with")
    places = own[["task", "seed"]]
    there = cells[cells["status"] == "ok"].merge(places, on=["task", "seed"])
    return there[there.groupby("method")["task"].transform("size") == len(places)]


def gap(cells: pd.DataFrame, method: str, name: str) -> Interval:
    """How much a metric of `method` exceeds the oracle's: mean and interval, in the unit of boards (% in points).

    Args:
        cells: as `paired` returns them.

    No value where a cell of either has none.
    """
    rows = {of: cells[cells["method"] == of] for of in (method, ORACLE)}
    if any(own[name].isna().any() for own in rows.values()):
        return statistics.NONE
    theirs, its = (statistics.clusters(clusters.pooled(rows[of], [name])) for of in (method, ORACLE))
    found = statistics.difference(theirs, its)
    low, high = clusters.limits(METRICS.get(name))
    return Interval(found.mean, max(found.low, low - high), min(found.high, high - low))


def table(cells: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Rows of text: heads, the oracle's figures, then for each other row of the board what it has more or less.

    Args:
        cells: a board's cells, as in its `-cells.csv`.
        names: metrics among its columns.

    Raises ValueError as `paired`.
    """
    found = paired(cells)
    metrics = [METRICS.get(name) for name in names]
    rows = [["method", *(f"{m.name.upper()} {m.unit}{m.arrow}" for m in metrics)]]
    own = found[found["method"] == ORACLE]
    rows.append([ORACLE, *(_text(clusters.figure(own, m.name), m.digits, "") for m in metrics)])
    for method in dict.fromkeys(found["method"]):
        if method != ORACLE:
            rows.append([method, *(_text(gap(found, method, m.name), m.digits, "+") for m in metrics)])
    return rows


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
        raise FileNotFoundError(f"{file}: no such file; a run writes it beside its board, as BOARD-cells.csv")
    try:
        cells = pd.read_csv(file)
    except ValueError as error:  # pandas' own are among them
        raise ValueError(f"{file}: not a table ({error})") from None
    if lacking := [name for name in ("method", "task", "seed", "status") if name not in cells]:
        raise ValueError(f"{file}: has no column {lacking[0]!r}, so it is no board's -cells.csv")
    has = [name for name in METRICS.names() if name in cells]
    if unknown := [name for name in asked if name not in has]:
        raise ValueError(f"{file}: has no metric {unknown[0]!r}: {nearest(unknown[0], has)}")
    return cells, list(asked) or [name for name in USUAL if name in has]


def parser() -> argparse.ArgumentParser:
    """The grammar of `python -m bench.oracle_gap`."""
    p = argparse.ArgumentParser(
        prog="python -m bench.oracle_gap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("cells", type=Path, metavar="FILE", help="a board's BOARD-cells.csv")
    p.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help=f"default: {' '.join(USUAL)}")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: prints a Markdown table."""
    p = parser()
    args = p.parse_args(argv)
    try:
        heads, *rows = table(*read(args.cells, args.metrics))
    except (ValueError, OSError) as error:
        p.error(str(error))
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
