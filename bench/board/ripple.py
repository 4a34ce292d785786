"""Loss of accuracy on each retained concept against its distance from the forgotten concept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.board import statistics

PREFIX = "distance_"  # prefix of the columns with a distance in tables of concepts
STEP = 0.1  # a ripple is the loss for this difference of distance
BINS = 8  # largest number of bins of a profile


def distances(concepts: pd.DataFrame) -> list[str]:
    """The names of the distances in a table of concepts, without `PREFIX`."""
    return [name.removeprefix(PREFIX) for name in map(str, concepts.columns) if name.startswith(PREFIX)]


def drops(concepts: pd.DataFrame) -> pd.DataFrame:
    """The rows of retained concepts in a table of concepts, with two more columns.

    `before` is the accuracy of `pretrained` on the same noise, in %. `drop` is `before` minus `accuracy`, in pp. A row
    is left out if `pretrained` has no row for its task, seed and concept.
    """
    kept = concepts[concepts["role"] != "forget"]
    place = ["task", "seed", "concept"]
    before = kept[kept["method"] == "pretrained"].set_index(place)["accuracy"].rename("before")
    joined = kept.join(before, on=place, how="inner")
    return joined.assign(drop=joined["before"] - joined["accuracy"])


def ripple(dropped: pd.DataFrame, distance: str) -> dict[statistics.Cell, float]:
    """(task, seed) -> the ripple of one method's cell: the additional drop of a concept for each 0.1 nearer, in pp.

    The ripple is the least-squares slope over the retained concepts whose distance is known. A cell has no ripple if it
    has fewer than three such concepts, or if all these concepts have the same distance.

    Args:
        dropped: rows of one method in the table from `drops`.
        distance: name of the distance.
    """
    column, place = PREFIX + distance, ["task", "seed"]
    known = dropped.dropna(subset=[column])
    each = known.groupby(place)
    nearer, lost = each[column].transform("mean") - known[column], known["drop"] - each["drop"].transform("mean")
    parts = known[place].assign(products=nearer * lost, squares=nearer**2).groupby(place)[["products", "squares"]].sum()
    slopes = (parts["products"] / parts["squares"])[(each.size() > 2) & (each[column].nunique() > 1)]
    return {
        (str(task), int(seed)): float(slope) * STEP for (task, seed), slope in zip(slopes.index, slopes, strict=True)
    }


def profile(dropped: pd.DataFrame, distance: str, methods: Sequence[str]) -> pd.DataFrame:
    """The curve of each method: its mean drop against distance, one row for each bin, from near to far.

    Retained concepts of all tasks are divided into at most `BINS` bins by distance. The bins have about the same number
    of concepts each, and they are the same for every method. The columns are `method`, `distance` (the mean distance in
    the bin), `drop` with its interval `drop_lo` and `drop_hi` in pp, and `n` (the number of images in the bin).
    Intervals are over the tasks that have a concept in the bin.

    Args:
        dropped: table from `drops`.
        distance: name of the distance.
        methods: names of the methods, in the order of the rows.
    """
    column = PREFIX + distance
    known = dropped.dropna(subset=[column])
    edges = np.unique(np.quantile(known[column], np.linspace(0, 1, BINS + 1))) if len(known) else np.array([])
    rows = []
    for method in methods:
        of_method = known[known["method"] == method]
        place = np.clip(np.searchsorted(edges, of_method[column], side="right") - 1, 0, max(len(edges) - 2, 0))
        for _, group in of_method.groupby(place):
            each = group.groupby(["task", "seed"], as_index=False)["drop"].mean()
            cells = {(row.task, row.seed): (row.drop,) for row in each.itertuples()}  # type: ignore[misc]
            mean = statistics.of_cells(cells, -100, 100)
            rows.append((method, group[column].mean(), mean.mean, mean.low, mean.high, int(group["n"].sum())))
    return pd.DataFrame(rows, columns=["method", "distance", "drop", "drop_lo", "drop_hi", "n"])
