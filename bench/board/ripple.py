"""Loss of accuracy on each retained concept against its distance from the forgotten concept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.board import statistics

PREFIX = "distance_"  # of the columns that hold a distance, in tables of concepts
STEP = 0.1  # the difference of distance that a ripple is the loss for
BINS = 8


def distances(concepts: pd.DataFrame) -> list[str]:
    """The names of the distances that a table of concepts has."""
    return [name.removeprefix(PREFIX) for name in map(str, concepts.columns) if name.startswith(PREFIX)]


def drops(concepts: pd.DataFrame) -> pd.DataFrame:
    """The rows of retained concepts, with `before`, `pretrained`'s accuracy on the same noise in %, and `drop` from it.

    Rows of cells whose task and seed `pretrained` lacks are left out.
    """
    kept = concepts[concepts["role"] != "forget"]
    place = ["task", "seed", "concept"]
    before = kept[kept["method"] == "pretrained"].set_index(place)["accuracy"].rename("before")
    joined = kept.join(before, on=place, how="inner")
    return joined.assign(drop=joined["before"] - joined["accuracy"])


def ripple(dropped: pd.DataFrame, distance: str) -> dict[statistics.Cell, float]:
    """Of one method's `drops`, for each cell: how many points more a concept loses for each 0.1 that it is nearer.

    The least-squares slope over the retained concepts whose distance is known. A cell has no slope if it has fewer than
    three such concepts, or if all have the same distance.
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
    """From `drops` to the curve of each method, near to far: `distance`, `drop` with `drop_lo`, `drop_hi`, and `n`.

    Retained concepts of all tasks are put into at most `BINS` bins by distance, as many in each, the same for every
    method; `distance` is a bin's mean, `n` the images in it. Intervals are over the tasks that have a concept there.
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
