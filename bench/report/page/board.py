"""The board as the page shows it: columns with their meaning, and cells with the places of their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.board import aggregates
from bench.report.terminal import columns_of
from methods import REFERENCES
from metrics import COSTS, METRICS, Metric

ROOM = 0.06  # of a bar's scale, left free at each end


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Args:
        name: of the board's column; `NAME_lo` and `NAME_hi` are its interval where there is one.
        label, unit, about: for people.
        arrow: which way is better.
        headline: shown at first; others on request.
        digits: decimals.
        scale: what a figure is multiplied with to be in `unit`.
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
    """A figure in words, what it sorts by, and its bar: ends and mean in % of the column's scale, None where off it."""

    text: str = ""
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    at: float | None = None
    beyond: str = ""  # "less" or "more": the figure lies outside of the scale


def columns(board: pd.DataFrame, metrics: Sequence[str]) -> list[Column]:
    """The board's columns of figures that hold any, headlines first.

    Where general columns mix states that nobody would weigh against each other, headlines are those of the terminal:
    the suite's `own` and metrics that were chosen by name.
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
    """What a suite has in the place of general columns, where those are means of unlike states; [] elsewhere."""
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
    """The scale of a column's bars: all that methods, or if there are none the controls, have. None without figures."""
    rows = board[~board["method"].isin(REFERENCES)]
    if rows[column.name].isna().all():
        rows = board
    ends = [rows[name] for name in (column.name, f"{column.name}_lo", f"{column.name}_hi") if name in rows]
    values = pd.concat(ends).dropna().astype(float) * column.scale
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    if f"{column.name}_lo" not in board:
        low = min(low, 0.0)  # counts are read as lengths
    return (low, high) if high > low else (low - 1, high + 1)


def cell(row: dict[Any, Any], column: Column, scale: tuple[float, float] | None) -> Cell:
    """One figure of the board, on the column's scale."""
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
    """Where a value lies on a scale: 0 to 100, with room at both ends."""
    share = (value - scale[0]) / (scale[1] - scale[0])
    return round(100 * (ROOM + share * (1 - 2 * ROOM)), 2)


def rows(board: pd.DataFrame, shown: Sequence[Column]) -> list[dict[str, Any]]:
    """The board's rows, each with its `cells`, one for each of the columns `shown`."""
    scales = {column.name: span(board, column) for column in shown}
    out = []
    for row in board.to_dict("records"):
        facts = {name: None if pd.isna(row.get(name)) else row.get(name) for name in ("rank", "compensation", "status")}
        facts["rank"] = None if facts["rank"] is None else int(facts["rank"])
        cells = [cell(row, column, scales[column.name]) for column in shown]
        out.append({"method": row["method"], "fidelity": row["fidelity"], "cells": cells, **facts})
    return out


def ends(board: pd.DataFrame, column: Column) -> str:
    """The ends of a column's scale, in words."""
    scale = span(board, column)
    return "" if scale is None else f"{scale[0]:,.{column.digits}f} – {scale[1]:,.{column.digits}f}"
