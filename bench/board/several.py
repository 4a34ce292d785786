"""Forgetting several concepts at once: figures against their number."""

from __future__ import annotations

import pandas as pd

from bench.board import clusters
from bench.board.columns import Figures, Measured, column
from metrics import Column

FIGURES = (*clusters.PARTS, clusters.H)  # those with a column of the board for each number of concepts
STAY = (clusters.H, *clusters.PARTS)  # of the general columns, beside them in a narrow table
UNLIKE = ""  # what general columns are means of, where nobody would weigh that against each other
CLUSTERS = "tasks"


def frame(cells: pd.DataFrame) -> pd.DataFrame:
    """From cells to one row for each method and number `k` of concepts forgotten at once: the means of its figures.

    H, UA, NRA, TWIN, ORA, FID, KID, DRIFT, those that were measured, each as NAME, NAME_lo, NAME_hi; from `method` and
    `k` on in this order. Intervals are over the tasks of that k. A method whose cells of some k are not all finished
    has no row there. Requests of a sequence are none of these cells. No rows where no task forgets several concepts.
    """
    own, names = at_once(cells), clusters.shown(cells)
    rows = [
        {"method": method, "k": k, **clusters.figures(group, names)}
        for method, cells_of in own.groupby("method", sort=False)
        for k, group in cells_of.groupby("k")
        if clusters.whole(group)
    ]
    return pd.DataFrame(rows, columns=["method", "k", *clusters.spread(names)])


def at_once(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that forget in one request from the untouched model; with column `k`, and no rows where none has it."""
    if "k" not in cells:
        return cells.iloc[:0].assign(k=pd.Series(dtype="Int64"))
    alone = [cells[name].isna() for name in ("chain", "probe") if name in cells]
    return cells[pd.concat(alone, axis=1).all(axis=1)] if alone else cells


def columns(own: Measured, every: Measured) -> Figures:
    """UA_kK, NRA_kK, ORA_kK and H_kK of one method for each number K of concepts that some task forgets at once."""
    row: Figures = {}
    cells, names = at_once(own.cells), clusters.shown(every.cells)
    for k in sorted(at_once(every.cells)["k"].unique()):
        here = cells[cells["k"] == k]
        for name in (name for name in FIGURES if name in names):
            found = clusters.harmonic(here) if name == clusters.H else clusters.figure(here, name)
            row |= column(f"{name}_k{k}", found, clusters.images(here, name))
    return row


def described(columns: list[str]) -> list[Column]:
    """The columns of this room among a board's."""
    found = []
    for name in columns:
        figure, _, k = name.partition("_k")
        if figure in FIGURES and k.isdigit():
            about = f"{figure.upper()} of the tasks that forget {k} at once"
            found.append(Column(name, about, "%", "higher", headline=figure == clusters.H))
    return found
