"""Columns of a board that no single cell has: what they are read off, how one is shown, what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from bench.board.statistics import Interval


@dataclass(frozen=True)
class Figure:
    """A figure of the board.

    Args:
        interval: its value and the interval around it; NaN where there is none.
        count: the number of images that it rests on; None where it has no value.
        counted: whether it rests on a number of images at all.
    """

    interval: Interval
    count: int | None = None
    counted: bool = True


Figures = dict[str, Figure]  # by the name of the column that has the value


def column(name: str, found: Interval, count: int | None) -> Figures:
    """One figure that rests on `count` images."""
    return {name: Figure(found, count)}


def ends(name: str, found: Interval) -> Figures:
    """One figure that rests on no number of images."""
    return {name: Figure(found, counted=False)}


def flat(figures: Mapping[str, Figure]) -> dict[str, float | int | None]:
    """The columns of a row: NAME, NAME_lo, NAME_hi of each figure, and NAME_n of each counted one; NaN becomes None."""
    row: dict[str, float | int | None] = {}
    for name, figure in figures.items():
        found = figure.interval
        each = {name: found.mean, f"{name}_lo": found.low, f"{name}_hi": found.high}
        row |= {column: None if np.isnan(value) else value for column, value in each.items()}
        row |= {f"{name}_n": figure.count} if figure.counted else {}
    return row


def counts(figures: Mapping[str, Figure]) -> list[str]:
    """Those of the columns of `flat` that hold numbers of images."""
    return [f"{name}_n" for name, figure in figures.items() if figure.counted]


@dataclass(frozen=True)
class Measured:
    """The tables that derived columns are read off, of all methods or of one.

    Args:
        cells: of `tables.cells_frame`.
        concepts: of `tables.concepts_frame`.
        dropped: of `ripple.drops`.
        points: of `curve.frame`, of what was unlearned from the untouched model.
        matrix: of `sequences.matrix`.
        recovered: of `relearning.frame`.
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
