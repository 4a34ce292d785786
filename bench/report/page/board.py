"""The table of the board on the page: its columns with their descriptions, and its cells with their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.board import aggregates
from bench.report.terminal import columns_of
from methods import REFERENCES
from metrics import COSTS, METRICS, Column

ROOM = 0.06  # share of a bar's scale that stays free at each end


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
    made = aggregates.described(list(map(str, board)))
    measured = [replace(m.column, about=f"{m.about} ({m.source})") for m in map(METRICS.get, metrics)]
    figures = [*(c for c in made if c.name == aggregates.H), *measured, *(c for c in made if c.name != aggregates.H)]
    if own(board):
        first = {one.name for one in columns_of(board, metrics)}
        figures = [replace(c, headline=c.name in first) for c in figures]
    there = [c for c in (*figures, *(cost.column for cost in COSTS)) if c.name in board and board[c.name].notna().any()]
    return sorted(there, key=lambda column: not column.headline)


def own(board: pd.DataFrame) -> list[str]:
    """The columns that a suite has in place of the general columns; [] if it uses the general columns."""
    names = list(map(str, board))
    room = aggregates.room_of(names)
    return [] if room is None or not room.UNLIKE else [one.name for one in room.described(names)]


def label(column: Column) -> str:
    """The name of a column, for people."""
    if column.name not in {cost.name for cost in COSTS}:
        return column.name.upper().replace("_", " ")
    return "s/cell" if column.name == "seconds" else column.name.replace("_", " ").replace(" bytes", "")


def unit(column: Column) -> str:
    """The unit of a column's figures on the page."""
    return "MB" if column.unit == "bytes" else column.unit


def scale(column: Column) -> float:
    """What a figure of the board's table is multiplied by to be in the page's `unit`."""
    return 1e-6 if column.unit == "bytes" else 1.0


def span(board: pd.DataFrame, column: Column) -> tuple[float, float] | None:
    """The scale of a column's bars: the range of the methods, or of the controls without methods. None if empty."""
    rows = board[~board["method"].isin(REFERENCES)]
    if rows[column.name].isna().all():
        rows = board
    ends = [rows[name] for name in (column.name, f"{column.name}_lo", f"{column.name}_hi") if name in rows]
    values = pd.concat(ends).dropna().astype(float) * scale(column)
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    if f"{column.name}_lo" not in board:
        low = min(low, 0.0)  # bars of counts start at 0, so that their lengths are in proportion
    return (low, high) if high > low else (low - 1, high + 1)


def cell(row: dict[Any, Any], column: Column, limits: tuple[float, float] | None) -> Cell:
    """One figure of the board, with its position between the `limits` of the column, which `span` gives."""
    mean = row.get(column.name)
    if mean is None or pd.isna(mean) or limits is None:
        return Cell()
    value = float(mean) * scale(column)
    ends = [row.get(f"{column.name}{end}") for end in ("_lo", "_hi")]
    low, high = (None if end is None or pd.isna(end) else float(end) * scale(column) for end in ends)
    text = f"{value:,.{column.digits}f}"
    interval = "" if low is None or high is None else f"{low:,.{column.digits}f} – {high:,.{column.digits}f}"
    if value < limits[0] or value > limits[1]:
        return Cell(text, interval, value, beyond="less" if value < limits[0] else "more")
    places = [None if v is None else place(min(max(v, limits[0]), limits[1]), limits) for v in (low, high, value)]
    return Cell(text, interval, value, places[0], places[1], places[2])


def place(value: float, limits: tuple[float, float]) -> float:
    """The position of a value between limits, 0 to 100, with a margin at both ends."""
    share = (value - limits[0]) / (limits[1] - limits[0])
    return round(100 * (ROOM + share * (1 - 2 * ROOM)), 2)


def rows(board: pd.DataFrame, shown: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows of the board. The `cells` of a row belong to the columns `shown`."""
    limits = {column.name: span(board, column) for column in shown}
    out = []
    for row in board.to_dict("records"):
        facts = {name: None if pd.isna(row.get(name)) else row.get(name) for name in ("rank", "compensation", "status")}
        facts["rank"] = None if facts["rank"] is None else int(facts["rank"])
        cells = [cell(row, column, limits[column.name]) for column in shown]
        out.append({"method": row["method"], "fidelity": row["fidelity"], "cells": cells, **facts})
    return out


def ends(board: pd.DataFrame, column: Column) -> str:
    """The two ends of a column's scale, as text."""
    limits = span(board, column)
    return "" if limits is None else f"{limits[0]:,.{column.digits}f} – {limits[1]:,.{column.digits}f}"
