"""Clusters of cells, and figures of cells with intervals over clusters.

The bootstrap resamples whole clusters. The cells of a sequence of requests share weights, so they form one cluster. The
cells that train the same unlearned model further also form one cluster. Every other task is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bench.board import statistics
from bench.board.statistics import Interval
from bench.core.results import CellResult
from metrics import METRICS, Metric

H, PARTS = "h", ("ua", "nra", "ora")  # H is the harmonic mean of PARTS
SHOWN = ("ua", "nra", "twin", "ora", "fid", "kid", "drift")  # charts of cells show these metrics, if measured


def of_result(result: CellResult) -> str:
    """The cluster of a result.

    A request of a sequence belongs to its sequence. A fine-tuning of an unlearned model belongs to the task that the
    model had unlearned. Any other result belongs to its own task.
    """
    if result.step:
        return result.step.sequence
    return result.probe.unlearned_task if result.probe else result.task


def named(cells: pd.DataFrame) -> pd.Series:
    """The cluster of each row of a table of cells. It is the same as `of_result` of the row's result."""
    cluster = cells["task"]
    for column in ("of", "chain"):
        if column in cells:
            cluster = cells[column].where(cells[column].notna(), cluster)
    return cluster


def pooled(cells: pd.DataFrame, names: Sequence[str]) -> dict[statistics.Cell, list[float]]:
    """(cluster, seed) -> mean of each of the figures `names`. Cells that lack one of these figures are left out."""
    known = cells[list(names)].notna().all(axis=1)
    values, place = cells.loc[known, list(names)].astype(float), named(cells)[known]
    return keyed(values.groupby([place, cells.loc[known, "seed"]]).mean())


def of_tasks(values: Mapping[statistics.Cell, float], cells: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(cluster, seed) -> mean of one figure over the tasks of the cluster.

    Args:
        values: (task, seed) -> the figure.
        cells: table of cells. It has the cluster of each task.
    """
    if not values:
        return {}
    rows = pd.DataFrame([(task, seed, value) for (task, seed), value in values.items()], columns=["task", "seed", "it"])
    place = cells.assign(cluster=named(cells))[["task", "seed", "cluster"]].drop_duplicates()
    return keyed(rows.merge(place, on=["task", "seed"]).groupby(["cluster", "seed"])[["it"]].mean())


def keyed(rows: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(cluster, seed) -> the values of a row, in the form that `statistics` needs. The index is (cluster, seed)."""
    each = zip(rows.index.tolist(), rows.to_numpy(dtype=float), strict=True)
    return {(str(cluster), int(seed)): list(row) for (cluster, seed), row in each}


def parts(cells: pd.DataFrame) -> np.ndarray:
    """UA, NRA and ORA of each cluster, in %: float64 (clusters, 3). It is (0, 3) if a cell lacks one of the three."""
    if not len(cells) or cells[list(PARTS)].isna().any(axis=None):
        return np.empty((0, len(PARTS)))
    return statistics.clusters(pooled(cells, PARTS))


def harmonic(cells: pd.DataFrame) -> Interval:
    """H of cells, in %, and its interval. The value is NaN if a cell lacks UA, NRA or ORA."""
    table = parts(cells)
    return statistics.interval(table, statistics.harmonic, 0, 100) if len(table) else statistics.NONE


def limits(metric: Metric) -> tuple[float, float]:
    """The lowest and highest possible value of a metric, in the unit that boards show."""
    by = 100 if metric.unit == "%" else 1
    return metric.low * by, metric.high * by


def figure(cells: pd.DataFrame, name: str) -> Interval:
    """The mean of a metric over cells and its interval, in the unit that boards show."""
    return statistics.of_cells(pooled(cells, [name]), *limits(METRICS.get(name)))


def images(cells: pd.DataFrame, name: str) -> int | None:
    """Number of images that a figure of these cells is computed from. None if the figure has no value."""
    counts = cells[[f"{part}_n" for part in (PARTS if name == H else (name,))]]
    lost = counts.isna().any(axis=None) if name == H else counts.isna().all(axis=None)
    return None if lost or not len(counts) else int(counts.sum().sum())


def shown(cells: pd.DataFrame) -> list[str]:
    """Names of the figures of a cell table: H if UA, NRA and ORA were measured, and the measured ones of `SHOWN`."""
    return [*((H,) if set(PARTS) <= set(cells) else ()), *(name for name in SHOWN if name in cells)]


def figures(cells: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """The mean of each figure over these cells (NAME) and its interval (NAME_lo, NAME_hi). A missing value is NaN.

    Args:
        names: names of figures, as from `shown`.
    """
    row: dict[str, float] = {}
    for name in names:
        interval = harmonic(cells) if name == H else figure(cells, name)
        row |= {name: interval.mean, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
    return row


def spread(names: Sequence[str]) -> list[str]:
    """The names of the columns of `figures`: NAME, NAME_lo and NAME_hi for each name."""
    return [name + end for name in names for end in ("", "_lo", "_hi")]


def whole(cells: pd.DataFrame) -> bool:
    """Whether all of these cells are finished. Means over fewer cells than other methods have are not comparable."""
    return bool((cells["status"] == "ok").all())
