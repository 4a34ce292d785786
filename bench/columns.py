"""Columns of a board that no single cell has: what they are read off, how one is shown, what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from bench.statistics import Interval

ENDS = ("_lo", "_hi", "_n")  # of a column's name: what stands beside its figure


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


def column(name: str, found: Interval, count: int | None) -> dict[str, float | int | None]:
    """The columns of one figure: NAME, NAME_lo, NAME_hi, NAME_n; what is NaN is blank."""
    return {**ends(name, found), f"{name}_n": count}


def ends(name: str, found: Interval) -> dict[str, float | int | None]:
    """A value with its interval: NAME, NAME_lo, NAME_hi; what is NaN is blank."""
    each = {name: found.mean, f"{name}_lo": found.low, f"{name}_hi": found.high}
    return {column: None if np.isnan(value) else value for column, value in each.items()}


@dataclass(frozen=True)
class Measured:
    """The tables that derived columns are read off, of all methods or of one.

    Args:
        cells: of `leaderboard.cells_frame`.
        concepts: of `leaderboard.concepts_frame`.
        dropped: of `nearness.drops`.
        points: of `curve.frame`, of what was unlearned from the untouched model.
        matrix: of `chain.matrix`.
        recovered: of `recovery.frame`.
    """

    cells: pd.DataFrame
    concepts: pd.DataFrame
    dropped: pd.DataFrame
    points: pd.DataFrame
    matrix: pd.DataFrame
    recovered: pd.DataFrame

    def of(self, method: str, finished: bool = True) -> Measured:
        """The rows of one method; none unless all of its cells are finished."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return Measured(**{name: table[(table["method"] == method) & finished] for name, table in tables.items()})
