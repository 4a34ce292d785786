"""The board as a Markdown table, for documents and for reading on a forge: the same figures as in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.derived import RANK
from bench.terminal import Shown, caption, columns_of


def table(board: pd.DataFrame, metrics: Sequence[str], title: str) -> str:
    """One row a method: means with their intervals, cost, what the method was given; below it what was measured how."""
    shown = columns_of(board, metrics)
    heads = [f"{m.name.upper()} {m.unit}{m.arrow}" for m in shown]
    lines = [
        f"**{title}**",
        "",
        _line(["method", "rank", *heads, "s/cell", "compensation", "status"]),
        _line(["---", *["---:"] * (len(shown) + 2), "---", "---"]),
        *(_line(_row(row, shown)) for row in board.to_dict("records")),
        "",
        caption(board, shown).replace("*", "\\*"),
        "",
    ]
    return "\n".join(lines)


def _row(row: Mapping[Any, Any], shown: Sequence[Shown]) -> list[str]:
    mark = r"\*" if row["fidelity"] == "reconstruction" else ""
    seconds = "" if pd.isna(row["seconds"]) else f"{row['seconds']:.0f}"
    given = "" if pd.isna(row["compensation"]) else row["compensation"]
    rank = "" if pd.isna(row[RANK]) else f"{row[RANK]:.0f}"
    return [row["method"] + mark, rank, *(_figure(row, metric) for metric in shown), seconds, given, row["status"]]


def _figure(row: Mapping[Any, Any], metric: Shown) -> str:
    mean, low, high = (row[metric.name + end] for end in ("", "_lo", "_hi"))
    if pd.isna(mean):
        return ""
    mean, low, high = ("" if pd.isna(value) else f"{value:.{metric.digits}f}" for value in (mean, low, high))
    return f"{mean} ({low}..{high})" if low else mean


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
