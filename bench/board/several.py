"""Forgetting several concepts at once: figures against the number of concepts."""

from __future__ import annotations

import pandas as pd

from bench.board import clusters
from bench.board.columns import Figures, Measured, column
from metrics import Column

FIGURES = (*clusters.PARTS, clusters.H)  # figures that have a column for each number of concepts
STAY = (clusters.H, *clusters.PARTS)  # general columns that a narrow table keeps beside the columns of this module
UNLIKE = ""  # words for the different states that general columns average; "" if the states are alike
CLUSTERS = "tasks"


def frame(cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each method and number `k` of concepts forgotten at once, with the means of the method's figures.

    The columns are `method`, `k`, and NAME, NAME_lo, NAME_hi of each of H, UA, NRA, TWIN, ORA, FID, KID and DRIFT that
    was measured, in this order. Intervals are over the tasks with that k. A method has no row for a k if one of its
    cells with that k is not finished. Requests of a sequence are left out. The table is empty if every task forgets one
    concept only.

    Args:
        cells: table from `tables.cells_frame`.
    """
    cells_at_once, names = at_once(cells), clusters.shown(cells)
    rows = [
        {"method": method, "k": k, **clusters.figures(group, names)}
        for method, cells_of in cells_at_once.groupby("method", sort=False)
        for k, group in cells_of.groupby("k")
        if clusters.whole(group)
    ]
    return pd.DataFrame(rows, columns=["method", "k", *clusters.spread(names)])


def at_once(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that start from the untouched model and forget in one request, with a column `k`.

    The table is empty if the cells have no column `k`.
    """
    if "k" not in cells:
        return cells.iloc[:0].assign(k=pd.Series(dtype="Int64"))
    alone = [cells[name].isna() for name in ("chain", "probe") if name in cells]
    return cells[pd.concat(alone, axis=1).all(axis=1)] if alone else cells


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The figures ua_kK, nra_kK, ora_kK and h_kK of one method, for each number K of concepts forgotten at once."""
    row: Figures = {}
    cells, names = at_once(of_method.cells), clusters.shown(of_board.cells)
    for k in sorted(at_once(of_board.cells)["k"].unique()):
        here = cells[cells["k"] == k]
        for name in (name for name in FIGURES if name in names):
            interval = clusters.harmonic(here) if name == clusters.H else clusters.figure(here, name)
            row |= column(f"{name}_k{k}", interval, clusters.images(here, name))
    return row


def described(columns: list[str]) -> list[Column]:
    """The columns of this module among the `columns` of a board."""
    shown = []
    for name in columns:
        figure, _, k = name.partition("_k")
        if figure in FIGURES and k.isdigit():
            about = f"{figure.upper()} of the tasks that forget {k} at once"
            shown.append(Column(name, about, "%", "higher", headline=figure == clusters.H))
    return shown
