"""The board as a Markdown table, with the figures of the table in the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.board.aggregates import RANK
from bench.core.text.printable import printable
from bench.report.terminal import caption, columns_of, ranked, words
from metrics import Column

# characters that mean something in Markdown or HTML; "_" only at the ends of a word
SPECIAL = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def table(board: pd.DataFrame, metrics: Sequence[str], title: str, warnings: Sequence[str] = ()) -> str:
    """The Markdown table of a board: one row per method, with means, intervals and cost, and a caption below.

    Args:
        warnings: sentences about the board's cells, which follow the caption as a list.
    """
    shown = columns_of(board, metrics)
    heads = [escaped(f"{m.name.upper()} {m.unit}{m.arrow}") for m in shown]
    ranks, last = [RANK] if ranked(board) else [], words(board)
    lines = [
        f"**{escaped(title)}**",
        "",
        line(["method", *ranks, *heads, "s/cell", *last]),
        line(["---", *["---:"] * (len(ranks) + len(shown) + 1), *["---"] * len(last)]),
        *(line(_row(row, ranks, shown, last)) for row in board.to_dict("records")),
        "",
        escaped(caption(board, shown, metrics)),
        "",
        *(("Warnings:", "", *(f"- {escaped(one)}" for one in warnings), "") if warnings else ()),
    ]
    return "\n".join(lines)


def _row(row: Mapping[Any, Any], ranks: Sequence[str], shown: Sequence[Column], words: Sequence[str]) -> list[str]:
    mark = r"\*" if row["fidelity"] == "reconstruction" else ""
    seconds = "" if pd.isna(row["seconds"]) else f"{row['seconds']:.0f}"
    said = ["" if pd.isna(row[name]) else escaped(str(row[name])) for name in words]
    places = ["" if pd.isna(row[name]) else f"{row[name]:.0f}" for name in ranks]
    return [escaped(row["method"]) + mark, *places, *(_figure(row, column) for column in shown), seconds, *said]


def _figure(row: Mapping[Any, Any], column: Column) -> str:
    mean, low, high = (row[column.name + end] for end in ("", "_lo", "_hi"))
    if pd.isna(mean):
        return ""
    mean, low, high = ("" if pd.isna(value) else f"{value:.{column.digits}f}" for value in (mean, low, high))
    return f"{mean} ({low}..{high})" if low else mean


def escaped(text: str) -> str:
    """`text` for a cell of a table or a sentence: Markdown and HTML in it have no effect, and it is one line.

    >>> escaped("a | *b* <i> m_x _y_")
    'a \\\\| \\\\*b\\\\* \\\\<i\\\\> m_x \\\\_y\\\\_'
    """
    made = SPECIAL.sub(r"\\\g<0>", printable(text))
    return re.sub(r"^ +| +$", lambda spaces: "&#32;" * len(spaces.group()), made)  # they would be cut off


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table, from cells that are Markdown."""
    return f"| {' | '.join(cells)} |"
