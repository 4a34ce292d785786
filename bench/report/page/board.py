"""The table of the board on the page: its columns with their descriptions, and its cells with their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.board import aggregates
from bench.report.terminal import columns_of
from methods import REFERENCES
from metrics import COSTS, METRICS, Metric

ROOM = 0.06  # share of a bar's scale that stays free at each end


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Args:
        name: name of the board's column. If the figure has an interval, `NAME_lo` and `NAME_hi` hold it.
        label: heading of the column.
        unit: unit of the figures.
        about: description of the column.
        arrow: "↑" if higher is better, "↓" if lower is better.
        headline: whether the page shows the column at first. The reader can show the others.
        digits: number of decimals.
        scale: factor by which a figure is multiplied to be in `unit`.
    """

    name: str
    label: str
    unit: str
    arrow: str
    about: str
    headline: bool
    digits: int
    scale: float = 1.0


@dataclass(frozen=True)
class Cell:
    """The text of a figure, its sort key and its bar. The bar's ends and mean are in % of the scale, or None."""

    text: str = ""
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    at: float | None = None
    beyond: str = ""  # "less" or "more" if the figure lies outside the scale


def columns(board: pd.DataFrame, metrics: Sequence[str]) -> list[Column]:
    """The columns that hold at least one figure, headlines first.

    A suite with columns of its own has other headlines: its own columns and the metrics that the user chose by name.
    """
    made = [_column(one, one.about) for one in aggregates.described(list(map(str, board)))]
    measured = [_column(metric, f"{metric.about} ({metric.source})") for metric in map(METRICS.get, metrics)]
    figures = [*(c for c in made if c.name == aggregates.H), *measured, *(c for c in made if c.name != aggregates.H)]
    if own(board):
        first = {one.name for one in columns_of(board, metrics)}
        figures = [replace(c, headline=c.name in first) for c in figures]
    there = [c for c in (*figures, *_costs()) if c.name in board and board[c.name].notna().any()]
    return sorted(there, key=lambda column: not column.headline)


def own(board: pd.DataFrame) -> list[str]:
    """The columns that a suite has in place of the general columns; [] if it uses the general columns."""
    names = list(map(str, board))
    room = aggregates.room_of(names)
    return [] if room is None or not room.UNLIKE else [one.name for one in room.described(names)]


def _costs() -> list[Column]:
    size = {"bytes": ("MB", 1e-6)}
    return [
        Column(
            cost.name,
            {"seconds": "s/cell"}.get(cost.name, cost.name.replace("_", " ").replace(" bytes", "")),
            size.get(cost.unit, (cost.unit, 1.0))[0],
            "↓",
            cost.about,
            cost.name == "seconds",
            1 if cost.unit == "bytes" else 0,
            size.get(cost.unit, (cost.unit, 1.0))[1],
        )
        for cost in COSTS
    ]


def _column(one: Metric | aggregates.Derived, about: str) -> Column:
    label = one.name.upper().replace("_", " ")
    return Column(one.name, label, one.unit, one.arrow, about, one.headline, one.digits)


def span(board: pd.DataFrame, column: Column) -> tuple[float, float] | None:
    """The scale of a column's bars: the range of the methods, or of the controls without methods. None if empty."""
    rows = board[~board["method"].isin(REFERENCES)]
    if rows[column.name].isna().all():
        rows = board
    ends = [rows[name] for name in (column.name, f"{column.name}_lo", f"{column.name}_hi") if name in rows]
    values = pd.concat(ends).dropna().astype(float) * column.scale
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    if f"{column.name}_lo" not in board:
        low = min(low, 0.0)  # bars of counts start at 0, so that their lengths are in proportion
    return (low, high) if high > low else (low - 1, high + 1)


def cell(row: dict[Any, Any], column: Column, scale: tuple[float, float] | None) -> Cell:
    """One figure of the board, on the scale of its column."""
    mean = row.get(column.name)
    if mean is None or pd.isna(mean) or scale is None:
        return Cell()
    value = float(mean) * column.scale
    ends = [row.get(f"{column.name}{end}") for end in ("_lo", "_hi")]
    low, high = (None if end is None or pd.isna(end) else float(end) * column.scale for end in ends)
    text = f"{value:,.{column.digits}f}"
    interval = "" if low is None or high is None else f"{low:,.{column.digits}f} – {high:,.{column.digits}f}"
    if value < scale[0] or value > scale[1]:
        return Cell(text, interval, value, beyond="less" if value < scale[0] else "more")
    places = [None if v is None else place(min(max(v, scale[0]), scale[1]), scale) for v in (low, high, value)]
    return Cell(text, interval, value, places[0], places[1], places[2])


def place(value: float, scale: tuple[float, float]) -> float:
    """The position of a value on a scale, 0 to 100, with a margin at both ends."""
    share = (value - scale[0]) / (scale[1] - scale[0])
    return round(100 * (ROOM + share * (1 - 2 * ROOM)), 2)


def rows(board: pd.DataFrame, shown: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows of the board. The `cells` of a row belong to the columns `shown`."""
    scales = {column.name: span(board, column) for column in shown}
    out = []
    for row in board.to_dict("records"):
        facts = {name: None if pd.isna(row.get(name)) else row.get(name) for name in ("rank", "compensation", "status")}
        facts["rank"] = None if facts["rank"] is None else int(facts["rank"])
        cells = [cell(row, column, scales[column.name]) for column in shown]
        out.append({"method": row["method"], "fidelity": row["fidelity"], "cells": cells, **facts})
    return out


def ends(board: pd.DataFrame, column: Column) -> str:
    """The two ends of a column's scale, as text."""
    scale = span(board, column)
    return "" if scale is None else f"{scale[0]:,.{column.digits}f} – {scale[1]:,.{column.digits}f}"
