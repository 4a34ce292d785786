"""Columns of a board that are computed from several cells: the tables they are computed from, and their figures."""

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
        interval: the value and its 95 % interval. A number that is missing is NaN.
        count: number of images that the value is computed from. None if the figure has no value.
        counted: whether the figure is computed from images, so that the board has a column for their number.
    """

    interval: Interval
    count: int | None = None
    counted: bool = True


Figures = dict[str, Figure]  # name of the column that has the value -> the figure


def column(name: str, interval: Interval, count: int | None) -> Figures:
    """One figure that is computed from `count` images."""
    return {name: Figure(interval, count)}


def ends(name: str, interval: Interval) -> Figures:
    """One figure that is not computed from images."""
    return {name: Figure(interval, counted=False)}


def flat(figures: Mapping[str, Figure]) -> dict[str, float | int | None]:
    """The columns of a row: NAME, NAME_lo and NAME_hi of each figure, NAME_n if it is counted. NaN becomes None."""
    row: dict[str, float | int | None] = {}
    for name, figure in figures.items():
        interval = figure.interval
        each = {name: interval.mean, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
        row |= {column: None if np.isnan(value) else value for column, value in each.items()}
        row |= {f"{name}_n": figure.count} if figure.counted else {}
    return row


def counts(figures: Mapping[str, Figure]) -> list[str]:
    """The columns of `flat` that hold numbers of images."""
    return [f"{name}_n" for name, figure in figures.items() if figure.counted]


@dataclass(frozen=True)
class Measured:
    """The tables that derived columns are computed from, with the rows of all methods or of one method.

    Args:
        cells: of `tables.cells_frame`.
        concepts: of `tables.concepts_frame`.
        dropped: of `ripple.drops`.
        points: of `curve.frame`, of cells that belong to no sequence of requests.
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
        """The rows of one method. The tables are empty if `finished` is False."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return Measured(**{name: table[(table["method"] == method) & finished] for name, table in tables.items()})
