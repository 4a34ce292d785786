"""Columns of a board that no single cell has: they are made of several figures, or of figures and distances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from bench.board import clusters, curve, relearning, ripple, sequences, several, statistics
from bench.board.clusters import PARTS, H
from bench.board.columns import Figures, Measured, column
from bench.core.results import CellResult
from metrics import METRICS, Column

RANK, RIPPLE, AT = "rank", "ripple", f"@ua{curve.UA:.0f}"
KEPT = ("nra", "ora")  # what a ripple is on the board with: the accuracies that it spreads out
MAIN = "text"  # the distance that `ripple` without a name goes by
ROOMS = (
    several,
    sequences,
    relearning,
)  # of requests for several concepts, in sequence, or not for good; each has its columns


def described(columns: Collection[str]) -> list[Column]:
    """The derived columns among a board's `columns`, in the order in which a reader wants them."""
    found = [Column(H, "harmonic mean of UA, NRA and ORA", "%", "higher")] if H in columns else []
    found += [one for room in ROOMS for one in room.described(list(columns))]
    for name in columns:
        if name == RIPPLE or (name.startswith(f"{RIPPLE}_") and f"{name}_lo" in columns):
            by = name.removeprefix(RIPPLE).removeprefix("_") or MAIN
            about = f"accuracy that a retained concept loses more for each {ripple.STEP} that it is nearer, by {by}"
            found.append(Column(name, about, "pp", "lower", headline=name == RIPPLE))
        elif name.endswith(AT):
            about = f"{name.removesuffix(AT).upper()} where UA first reaches {curve.UA:.0f} % in training; blank: never"
            found.append(Column(name, about, "%", "higher"))
    return found


def room_of(columns: Collection[str]) -> Any | None:
    """The one of `ROOMS` whose columns a board has; None for a board that is about none of that."""
    return next((room for room in ROOMS if room.described(list(columns))), None)


def ranked_by(columns: Collection[str]) -> str:
    """The column whose figure ranks go by; "" for a board without ranks.

    Over a sequence H is a mean of states that come after one another, so its last one counts. While an unlearned model
    is trained further H mixes what nobody would weigh against each other, so there is no rank.
    """
    room = room_of(columns)
    return sequences.RANKED_BY if room is sequences else "" if room is relearning else H


def measured(
    results: Sequence[CellResult], metrics: Sequence[str], cells: pd.DataFrame, concepts: pd.DataFrame
) -> Measured:
    """What the derived columns of a board are read off: its results, with their tables of cells and concepts."""
    return Measured(
        cells=cells,
        concepts=concepts,
        dropped=ripple.drops(concepts),
        points=curve.frame([result for result in results if not result.step], metrics),
        matrix=sequences.matrix(results),
        recovered=relearning.frame(results),
    )


def columns(own: Measured, every: Measured) -> Figures:
    """The derived columns of one method, from its own tables (empty: blank columns) and those of the whole board.

    Which columns there are depends on what was measured of all methods, not on the figures.
    """
    row: Figures = {}
    if set(PARTS) <= set(own.cells):
        row |= column(H, clusters.harmonic(own.cells), clusters.images(own.cells, H) if len(own.cells) else None)
    for room in ROOMS:
        row |= room.columns(own, every)
    for name in ripple.distances(every.concepts) if set(KEPT) <= set(own.cells) else ():
        slopes = ripple.ripple(own.dropped, name) if len(own.dropped) else {}
        count = int(own.dropped["n"].sum()) if slopes else None
        found = statistics.of_cells(clusters.of_tasks(slopes, own.cells))
        row |= column(RIPPLE if name == MAIN else f"{RIPPLE}_{name}", found, count)
    for metric in map(METRICS.get, (name for name in METRICS.names() if name in own.points)):
        if metric.retention and "ua" in own.points and len(every.points):  # no points: no run asked for curves
            found, count = curve.at_matched(own.points, metric.name)
            row |= column(metric.name + AT, found, count or None)
    return row


def ranks(cells: pd.DataFrame, methods: Sequence[str]) -> dict[str, int]:
    """Rank by H of each of `methods`, all of whose cells are finished; none where there are too few to compare.

    On sequences of requests by H after the last one. A method that lacks a task of the others is not compared, and
    none is where unlearned models were trained further.
    """
    if not set(PARTS) <= set(cells) or "probe" in cells:
        return {}
    whole = cells[["task", "seed"]].drop_duplicates()
    complete = [name for name in methods if (cells["method"] == name).sum() == len(whole)]
    ranked = sequences.last(cells, cells) if "chain" in cells else cells
    tables = {name: clusters.parts(ranked[ranked["method"] == name]) for name in complete}
    tables = {name: table for name, table in tables.items() if len(table) > 1}
    return statistics.ranks(tables, statistics.harmonic)
