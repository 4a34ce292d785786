"""Columns of a board that no single cell has: they are made of several figures, or of figures and distances."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench import curve, nearness, statistics
from bench.statistics import Interval
from metrics import METRICS

RANK, H, RIPPLE, AT = "rank", "h", "ripple", f"@ua{curve.UA:.0f}"
PARTS = ("ua", "nra", "ora")  # of H
KEPT = ("nra", "ora")  # what a ripple is on the board with: the accuracies that it spreads out
MAIN = "text"  # the distance that `ripple` without a name goes by


@dataclass(frozen=True)
class Derived:
    """How a derived column is shown; the names are those of `metrics.Metric`."""

    name: str
    about: str
    unit: str
    higher_is_better: bool
    headline: bool = True
    digits: int = 1

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"


def described(columns: Collection[str]) -> list[Derived]:
    """The derived columns among a board's `columns`, in the order in which a reader wants them."""
    found = [Derived(H, "harmonic mean of UA, NRA and ORA", "%", True)] if H in columns else []
    for name in columns:
        if name == RIPPLE or (name.startswith(f"{RIPPLE}_") and not name.endswith(("_lo", "_hi", "_n"))):
            by = name.removeprefix(RIPPLE).removeprefix("_") or MAIN
            about = f"accuracy that a retained concept loses more for each {nearness.STEP} that it is nearer, by {by}"
            found.append(Derived(name, about, "pp", False, headline=name == RIPPLE))
        elif name.endswith(AT):
            about = f"{name.removesuffix(AT).upper()} where UA first reaches {curve.UA:.0f} % in training; blank: never"
            found.append(Derived(name, about, "%", True))
    return found


def columns(
    cells: pd.DataFrame, dropped: pd.DataFrame, points: pd.DataFrame, distances: Sequence[str]
) -> dict[str, Any]:
    """The derived columns of one method, from its finished cells, its `nearness.drops` and its `curve.frame`.

    Empty frames give empty columns. Which columns there are depends on what was measured, not on the figures.
    """
    row: dict[str, Any] = {}
    if set(PARTS) <= set(cells):
        table = parts(cells)
        found = statistics.interval(table, statistics.harmonic, 0, 100) if len(table) else statistics.NONE
        row |= column(H, found, int(cells[[f"{name}_n" for name in PARTS]].sum().sum()) if len(table) else None)
    for name in distances if set(KEPT) <= set(cells) else ():
        of = {cell: (slope,) for cell, slope in nearness.ripple(dropped, name).items()} if len(dropped) else {}
        count = int(dropped["n"].sum()) if of else None
        row |= column(RIPPLE if name == MAIN else f"{RIPPLE}_{name}", statistics.of_cells(of), count)
    for metric in map(METRICS.get, METRICS.names()):
        if metric.retention and metric.name in points and "ua" in points:
            found, count = curve.at_matched(points, metric.name)
            row |= column(metric.name + AT, found, count or None)
    return row


def column(name: str, found: Interval, count: int | None) -> dict[str, float | int | None]:
    """The columns of one figure: NAME, NAME_lo, NAME_hi, NAME_n; what is NaN is blank."""
    return {**ends(name, found), f"{name}_n": count}


def ends(name: str, found: Interval) -> dict[str, float | int | None]:
    """A value with its interval: NAME, NAME_lo, NAME_hi; what is NaN is blank."""
    each = {name: found.mean, f"{name}_lo": found.low, f"{name}_hi": found.high}
    return {column: None if np.isnan(value) else value for column, value in each.items()}


def parts(cells: pd.DataFrame) -> np.ndarray:
    """What H is made of, in %: float (clusters, 3); no rows where a cell has no figure for one of them."""
    if not len(cells) or cells[list(PARTS)].isna().any(axis=None):
        return np.empty((0, len(PARTS)))
    rows: Mapping[statistics.Cell, Sequence[float]] = {
        (row["task"], row["seed"]): [row[name] for name in PARTS] for row in cells.to_dict("records")
    }
    return statistics.clusters(rows)


def ranks(cells: pd.DataFrame, methods: Sequence[str]) -> dict[str, int]:
    """Rank by H of each of `methods`, all of whose cells are finished; none where there are too few to compare."""
    if not set(PARTS) <= set(cells):
        return {}
    tables = {name: parts(cells[cells["method"] == name]) for name in methods}
    tables = {name: table for name, table in tables.items() if len(table) > 1}
    return statistics.ranks(tables, statistics.harmonic)
