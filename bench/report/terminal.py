"""The board as a table in a terminal. Columns that do not fit follow in further tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.board import cell_columns, several
from bench.board.aggregates import RANK, H, described, ranked_by, room_of
from metrics import METRICS, Column, Metric


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


def show(
    board: pd.DataFrame, metrics: Sequence[str], title: str, width: int = 120, warnings: Sequence[str] = ()
) -> Group:
    """The board for a terminal with `width` columns of text: means, with their intervals below.

    Columns that do not fit follow in further tables. The last lines are `warnings`, sentences about the board's cells.
    """
    shown = columns_of(board, metrics)
    rows = board.to_dict("records")
    columns = [("rank", ["" if pd.isna(row[RANK]) else f"{row[RANK]}" for row in rows])] if ranked(board) else []
    columns += [(_head(m, metrics), [_figure(row, m) for row in rows]) for m in shown]
    columns += [("s/cell", ["" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}" for row in rows])]
    numbers = len(columns)
    for name in words(board):
        columns.append((name, ["" if pd.isna(row[name]) else row[name] for row in rows]))
    names = [row["method"] + ("*" if row["fidelity"] == "reconstruction" else "") for row in rows]

    left = width - _narrowest(["method", *names], False) - 1
    parts: list[list[int]] = [[]]
    used = 0
    for i, (head, cells) in enumerate(columns):
        takes = _narrowest([head, *cells], i >= numbers)
        if parts[-1] and used + takes > left:
            parts.append([])
            used = 0
        parts[-1].append(i)
        used += takes
    tables = [_part(names, {columns[i][0]: (columns[i][1], i < numbers) for i in part}) for part in parts]
    tables[0].title = title
    lines = [Text(f"warning: {one}", style="yellow") for one in warnings]
    return Group(*tables, Text(caption(board, shown, metrics), style="dim italic"), *lines)


def _part(names: Sequence[str], columns: Mapping[str, tuple[list[str], bool]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for head, (_, number) in columns.items():
        table.add_column(head, justify="right" if number else "left", no_wrap=number)
    for i, name in enumerate(names):
        table.add_row(name, *(cells[i] for cells, _ in columns.values()))
    return table


def _narrowest(texts: Sequence[str], wraps: bool) -> int:
    """The width that a column of the table needs, with margins and rule, in columns of text."""
    pieces = [p for text in texts for p in (text.split() if wraps else Text.from_markup(text).plain.splitlines())]
    return max(map(cell_len, pieces), default=0) + 3


def _figure(row: Mapping[Any, Any], column: Column) -> str:
    name = column.name
    if pd.isna(row[name]):
        return ""
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    digits = 0 if column.unit == "%" else column.digits
    interval = "" if pd.isna(low) else f"\n[dim]{low:.{digits}f}..{high:.{digits}f}[/dim]"
    return f"{row[name]:.{column.digits}f}{interval}"


def each_judge(board: pd.DataFrame) -> str:
    """The accuracy of each judge, " (birds 91.2, dogs 93.0)"; "" if there is only one judge."""
    columns = [name for name in map(str, board.columns) if name.startswith("judge_") and name != "judge_n"]
    parts = [
        f"{name.removeprefix('judge_')} {board[name].iloc[0]:.1f}" for name in columns if board[name].notna().any()
    ]
    return f" ({', '.join(parts)})" if parts else ""


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
    judges = "none" if pd.isna(judge) else f"{judge:.1f} % right on {count} real pictures{each_judge(good)}"
    by, room = ranked(board), room_of(list(map(str, board.columns)))
    rank = f"rank by {by}, shared where the difference may be chance; " if by else ""
    return (
        f"mean lo..hi (95 % bootstrap over {room.CLUSTERS if room else 'tasks'}); {rank}"
        f"images: {counts}; features {extractor}; judges {judges}; {board['protocol'].iloc[0]} protocol "
        f"{board['fingerprint'].iloc[0]}; * reconstructed without authors' code"
    )
