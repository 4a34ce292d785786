"""The board as a table in a terminal. Columns that do not fit follow in further tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from bench.board import cell_columns, several
from bench.board.aggregates import RANK, H, described, ranked_by, room_of
from bench.core.text.terminal import Plain
from metrics import METRICS, Column, Metric

MAX_WORD = 40  # columns of text; a longer word of a name or of a sentence is broken
MARGINS = 3  # columns of text that a column of a table needs besides its text


def in_table(metrics: Sequence[str]) -> list[Metric]:
    """The metrics of the terminal's table: the headlines if every metric was measured, else all of `metrics`."""
    everything = set(METRICS.names()) <= set(metrics)
    return [metric for metric in map(METRICS.get, metrics) if metric.headline or not everything]


def columns_of(board: pd.DataFrame, metrics: Sequence[str]) -> list[Column]:
    """The columns of figures of a board's table, left to right: H, the metrics of `in_table`, the derived columns.

    If the suite has columns of its own, they replace the derived columns and the metrics that were not chosen by name.
    """
    columns, chosen = list(map(str, board.columns)), [metric.column for metric in in_table(metrics)]
    more = [one for one in described(columns) if one.headline]
    if room := room_of(columns):
        own = {one.name for one in room.described(columns)}
        named = not set(METRICS.names()) <= set(metrics)
        kept = [one for one in chosen if named or one.name in room.STAY]
        return [*(one for one in more if one.name in own or one.name in room.STAY), *kept]
    return [*(one for one in more if one.name == H), *chosen, *(one for one in more if one.name != H)]


def ranked(board: pd.DataFrame) -> str:
    """The name of the figure that determines ranks; "" if the board has no ranks."""
    return ranked_by(list(map(str, board.columns))).replace("_", " ").upper()


def words(board: pd.DataFrame) -> list[str]:
    """The text columns at the end of a board's table."""
    ways = room_of(list(map(str, board.columns))) is several
    return [*([cell_columns.WAY] if ways else []), "compensation", "status"]


def _head(column: Column, metrics: Sequence[str]) -> str:
    """The head of a column. The name of a metric stays whole; any other name is broken before its last word."""
    name = column.name.upper()
    if column.name not in metrics:
        name = "\n".join(part.replace("_", " ") for part in name.rsplit("_", 1))
    return f"{name} {column.unit}{column.arrow}"


@dataclass(frozen=True)
class TextColumn:
    """A column of the table in the terminal: its head and cells in the form that the terminal shows.

    Args:
        number: whether the cells are figures, which are never broken.
    """

    head: Text
    cells: list[Text]
    number: bool

    @property
    def width(self) -> int:
        """The least width that shows the column, with margins and rule, in columns of text."""
        texts = [text.plain for text in (self.head, *self.cells)]
        pieces = [piece for text in texts for piece in (text.splitlines() if self.number else text.split())]
        return min(max(map(cell_len, pieces), default=0), MAX_WORD) + MARGINS


def show(
    board: pd.DataFrame,
    metrics: Sequence[str],
    title: str,
    width: int = 120,
    warnings: Sequence[str] = (),
    encoding: str = "utf-8",
) -> Group:
    """The board for a terminal: means, with their intervals below. Columns that do not fit follow in further tables.

    Args:
        width: width of the terminal in columns of text.
        warnings: sentences about the board's cells, for the last lines.
        encoding: encoding of the terminal. Characters that it lacks are shown as escape sequences.
    """

    def text(*parts: str | tuple[str, str], lines: bool = False) -> Text:
        return Plain(*parts, lines=lines).text(encoding)

    shown = columns_of(board, metrics)
    rows = board.to_dict("records")
    columns = []
    if ranked(board):
        ranks = ["" if pd.isna(row[RANK]) else f"{row[RANK]}" for row in rows]
        columns.append(TextColumn(text("rank"), [*map(text, ranks)], number=True))
    for column in shown:
        figures = [text(*_figure(row, column), lines=True) for row in rows]
        columns.append(TextColumn(text(_head(column, metrics), lines=True), figures, number=True))
    seconds = ["" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}" for row in rows]
    columns.append(TextColumn(text("s/cell"), [*map(text, seconds)], number=True))
    for name in words(board):
        cells = [text("" if pd.isna(row[name]) else str(row[name])) for row in rows]
        columns.append(TextColumn(text(name), cells, number=False))
    names = [text(row["method"] + ("*" if row["fidelity"] == "reconstruction" else "")) for row in rows]

    room = max([cell_len("method"), *(cell_len(name.plain) for name in names)])
    room = min(room, max(width // 2, MAX_WORD))  # a longer name is folded
    left = width - room - MARGINS - 1
    parts: list[list[TextColumn]] = [[]]
    used = 0
    for one in columns:
        if parts[-1] and used + one.width > left:
            parts.append([])
            used = 0
        parts[-1].append(one)
        used += one.width
    tables = [_part(names, room, part) for part in parts]
    tables[0].title = text(title)
    last = text((caption(board, shown, metrics), "dim italic"))
    return Group(*tables, last, *(text((f"warning: {one}", "yellow")) for one in warnings))


def _part(names: Sequence[Text], room: int, columns: Sequence[TextColumn]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", overflow="fold", min_width=room, max_width=room)
    for one in columns:
        justify: JustifyMethod = "right" if one.number else "left"
        table.add_column(one.head, justify=justify, no_wrap=one.number, overflow="fold")
    for i, name in enumerate(names):
        table.add_row(name, *(one.cells[i] for one in columns))
    return table


def _figure(row: Mapping[Any, Any], column: Column) -> tuple[str | tuple[str, str], ...]:
    """The mean, and the interval on a line of its own, in parts for `Plain`."""
    name = column.name
    if pd.isna(row[name]):
        return ()
    mean = f"{row[name]:.{column.digits}f}"
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    digits = 0 if column.unit == "%" else column.digits
    return (mean,) if pd.isna(low) else (mean, "\n", (f"{low:.{digits}f}..{high:.{digits}f}", "dim"))


def each_judge(board: pd.DataFrame) -> str:
    """The accuracy of each judge, " (birds 91.2, dogs 93.0)"; "" if there is only one judge."""
    columns = [name for name in map(str, board.columns) if name.startswith("judge_") and name != "judge_n"]
    parts = [
        f"{name.removeprefix('judge_')} {board[name].iloc[0]:.1f}" for name in columns if board[name].notna().any()
    ]
    return f" ({', '.join(parts)})" if parts else ""


def untouched(good: pd.DataFrame) -> str:
    """The accuracy of the judges on images of the untouched model; "" if the world draws no line there.

    Args:
        good: the rows of a board whose methods are finished.
    """
    if "untouched" not in good or not len(good) or pd.isna(good["untouched"].iloc[0]):
        return ""
    return f"{good['untouched'].iloc[0]:.1f} % right on {good['untouched_n'].iloc[0]} images of the untouched model"


def caption(board: pd.DataFrame, shown: Sequence[Column], metrics: Sequence[str]) -> str:
    """What the figures of a board rest on, in a sentence or two.

    Args:
        shown: the columns of the table above it, from `columns_of`. Numbers of images are those of metrics among them.
        metrics: names of the board's metrics.
    """
    good = board[board["status"] == "ok"]
    names = [column.name for column in shown]
    counted = [name for name in names if name in metrics] or names
    images = {name: good[f"{name}_n"].iloc[0] for name in counted if len(good)}
    sets = {name for name in metrics if METRICS.get(name).distribution}
    counts = ", ".join(
        f"{name} {count}{' a cell' if name in sets else ''}" for name, count in images.items() if not pd.isna(count)
    )
    extractor = good["fid_extractor"].iloc[0] if len(good) else "none"
    judge, count = (good["judge"].iloc[0], good["judge_n"].iloc[0]) if len(good) else (None, 0)
    judges = "" if pd.isna(judge) else f"{judge:.1f} % right on {count} real pictures{each_judge(good)}"
    judges = "; ".join(part for part in (judges, untouched(good)) if part) or "none"
    by, room = ranked(board), room_of(list(map(str, board.columns)))
    rank = f"rank by {by}, shared where the difference may be chance; " if by else ""
    return (
        f"mean lo..hi (95 % bootstrap over {room.CLUSTERS if room else 'tasks'}); {rank}"
        f"images: {counts}; features {extractor}; judges {judges}; {board['protocol'].iloc[0]} protocol "
        f"{board['fingerprint'].iloc[0]}; * reconstructed without authors' code"
    )
