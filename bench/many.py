"""Forgetting several concepts at once: figures against their number."""

from __future__ import annotations

import pandas as pd

from bench import clusters


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
