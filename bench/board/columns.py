"""Figures of a board that are computed from several cells, and the tables that they are computed from."""

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
        interval: the value and its 95 % interval. A missing number is NaN.
        count: number of images that the value is computed from. None if the figure has no value.
        counted: whether the figure is computed from images. If so, the board has a column for the number of images.
    """

    interval: Interval
    count: int | None = None
    counted: bool = True


Figures = dict[str, Figure]  # name of the column with the value -> the figure


def column(name: str, interval: Interval, count: int | None) -> Figures:
    """One figure that is computed from `count` images."""
    return {name: Figure(interval, count)}


def ends(name: str, interval: Interval) -> Figures:
    """One figure that is not computed from images."""
    return {name: Figure(interval, counted=False)}


def flat(figures: Mapping[str, Figure]) -> dict[str, float | int | None]:
    """The columns of a row: NAME, NAME_lo and NAME_hi of each figure, and NAME_n of a counted one. NaN becomes None."""
    row: dict[str, float | int | None] = {}
    for name, figure in figures.items():
        interval = figure.interval
        each = {name: interval.mean, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
        row |= {column: None if np.isnan(value) else value for column, value in each.items()}
        row |= {f"{name}_n": figure.count} if figure.counted else {}
    return row


def counts(figures: Mapping[str, Figure]) -> list[str]:
    """The names of the columns of `flat` that contain numbers of images."""
    return [f"{name}_n" for name, figure in figures.items() if figure.counted]


@dataclass(frozen=True)
class Measured:
    """The tables that derived columns are computed from. They have the rows of all methods or of one method.

    Args:
        cells: table from `tables.cells_frame`.
        concepts: table from `tables.concepts_frame`.
        dropped: table from `ripple.drops`.
        points: table from `curve.frame`, without the cells of sequences of requests.
        matrix: table from `sequences.matrix`.
        recovered: table from `relearning.frame`.
    """

    cells: pd.DataFrame
    concepts: pd.DataFrame
    dropped: pd.DataFrame
    points: pd.DataFrame
    matrix: pd.DataFrame
    recovered: pd.DataFrame

    def of(self, method: str, finished: bool = True) -> Measured:
        """The tables with the rows of one method only. The tables are empty if `finished` is False."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return Measured(**{name: table[(table["method"] == method) & finished] for name, table in tables.items()})
