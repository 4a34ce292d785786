"""Columns of a board: how a figure that no single cell has is shown, and what stands beside its value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
