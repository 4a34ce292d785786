"""Columns of a board that are computed from several figures, or from figures and distances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from bench.board import clusters, curve, judge_accuracy, relearning, ripple, sequences, several, statistics
from bench.board.clusters import PARTS, H
from bench.board.columns import Figures, Measured, column
from bench.core.results import CellResult
from metrics import METRICS, Column

RANK, RIPPLE, AT = "rank", "ripple", f"@ua{curve.UA:.0f}"  # two columns, and the ending of columns at matched UA
KEPT = ("nra", "ora")  # a board with both metrics has a ripple: the loss of accuracy against distance
MAIN = "text"  # the distance of the column `ripple`. The column of another distance is `ripple_DISTANCE`
ROOMS = (
    several,
    sequences,
    relearning,
)  # modules with the columns of one kind of suite: several concepts, sequences, further training


def described(columns: Collection[str]) -> list[Column]:
    """The derived columns among a board's `columns`, in the order in which they are shown."""
    shown = [Column(H, "harmonic mean of UA, NRA and ORA", "%", "higher")] if H in columns else []
    shown += [one for room in ROOMS for one in room.described(list(columns))]
    for name in columns:
        if name == RIPPLE or (name.startswith(f"{RIPPLE}_") and f"{name}_lo" in columns):
            by = name.removeprefix(RIPPLE).removeprefix("_") or MAIN
            about = f"accuracy that a retained concept loses more for each {ripple.STEP} that it is nearer, by {by}"
            shown.append(Column(name, about, "pp", "lower", headline=name == RIPPLE))
        elif name.endswith(AT):
            about = f"{name.removesuffix(AT).upper()} where UA first reaches {curve.UA:.0f} % in training; blank: never"
            shown.append(Column(name, about, "%", "higher"))
    return shown


def room_of(columns: Collection[str]) -> Any | None:
    """The first module of `ROOMS` whose columns a board has. None if the board has no columns of these modules."""
    return next((room for room in ROOMS if room.described(list(columns))), None)


def ranked_by(columns: Collection[str]) -> str:
    """The column that ranks are computed from. "" if the board has no ranks.

    In a suite of sequences, H averages the states after every request. Ranks therefore use H after the last request.
    In a suite that trains unlearned models further, H averages different kinds of training. Such a board therefore has
    no ranks.
    """
    room = room_of(columns)
    return sequences.RANKED_BY if room is sequences else "" if room is relearning else H


def measured(
    results: Sequence[CellResult], metrics: Sequence[str], cells: pd.DataFrame, concepts: pd.DataFrame
) -> Measured:
    """The tables that the derived columns of a board are computed from.

    Args:
        results: results of all cells of the board.
        metrics: names of the board's metrics.
        cells: table from `tables.cells_frame`.
        concepts: table from `tables.concepts_frame`.
    """
    concepts = judge_accuracy.counted(concepts)
    return Measured(
        cells=cells,
        concepts=concepts,
        dropped=ripple.drops(concepts),
        points=curve.frame([result for result in results if not result.step], metrics),
        matrix=sequences.matrix(results),
        recovered=relearning.frame(results),
    )


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The derived columns of one method, from its tables and those of the whole board.

    All methods of a board have the same columns. The columns have no values if the method's tables are empty.
    """
    row: Figures = {}
    if set(PARTS) <= set(of_method.cells):
        count = clusters.images(of_method.cells, H) if len(of_method.cells) else None
        row |= column(H, clusters.harmonic(of_method.cells), count)
    for room in ROOMS:
        row |= room.columns(of_method, of_board)
    for name in ripple.distances(of_board.concepts) if set(KEPT) <= set(of_method.cells) else ():
        slopes = ripple.ripple(of_method.dropped, name) if len(of_method.dropped) else {}
        count = int(of_method.dropped["n"].sum()) if slopes else None
        interval = statistics.of_cells(clusters.of_tasks(slopes, of_method.cells))
        row |= column(RIPPLE if name == MAIN else f"{RIPPLE}_{name}", interval, count)
    for metric in map(METRICS.get, (name for name in METRICS.names() if name in of_method.points)):
        if metric.retention and "ua" in of_method.points and len(of_board.points):  # --curve was given
            interval, count = curve.at_matched(of_method.points, metric.name)
            row |= column(metric.name + AT, interval, count or None)
    return row


def ranks(cells: pd.DataFrame, methods: Sequence[str]) -> dict[str, int]:
    """Rank by H of each of `methods`. Every cell of these methods must be finished.

    In a suite of sequences, ranks use H after the last request. A method has no rank if it lacks a task that other
    methods have, or if fewer than two clusters of tasks were measured. The result is empty if UA, NRA or ORA was not
    measured, or if the suite trains unlearned models further.
    """
    if not set(PARTS) <= set(cells) or "probe" in cells:
        return {}
    whole = cells[["task", "seed"]].drop_duplicates()
    complete = [name for name in methods if (cells["method"] == name).sum() == len(whole)]
    ranked = sequences.last(cells, cells) if "chain" in cells else cells
    tables = {name: clusters.parts(ranked[ranked["method"] == name]) for name in complete}
    tables = {name: table for name, table in tables.items() if len(table) > 1}
    return statistics.ranks(tables, statistics.harmonic)
