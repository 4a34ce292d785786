"""Clusters of cells, which the bootstrap resamples as one, and figures of cells with intervals over clusters.

The cells of a sequence of requests share weights, so they are one cluster. So are the cells that train one unlearned
model further. Any other task is a cluster of its own.
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
SHOWN = ("ua", "nra", "twin", "ora", "fid", "kid", "drift")  # metrics that charts of cells show, if they were measured


def of_result(result: CellResult) -> str:
    """The cluster of a result: its sequence, the task that its fine-tuning started from, or else its task."""
    if result.step:
        return result.step.sequence
    return result.probe.unlearned_task if result.probe else result.task


def named(cells: pd.DataFrame) -> pd.Series:
    """The cluster of each row of a table of cells, as of its result."""
    cluster = cells["task"]
    for column in ("of", "chain"):
        if column in cells:
            cluster = cells[column].where(cells[column].notna(), cluster)
    return cluster


def pooled(cells: pd.DataFrame, names: Sequence[str]) -> dict[statistics.Cell, list[float]]:
    """Of each cluster and seed the means of figures over those of its cells that have all of them."""
    known = cells[list(names)].notna().all(axis=1)
    values, place = cells.loc[known, list(names)].astype(float), named(cells)[known]
    return keyed(values.groupby([place, cells.loc[known, "seed"]]).mean())


def of_tasks(values: Mapping[statistics.Cell, float], cells: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """Means by cluster and seed of figures by task and seed."""
    if not values:
        return {}
    rows = pd.DataFrame([(task, seed, value) for (task, seed), value in values.items()], columns=["task", "seed", "it"])
    place = cells.assign(cluster=named(cells))[["task", "seed", "cluster"]].drop_duplicates()
    return keyed(rows.merge(place, on=["task", "seed"]).groupby(["cluster", "seed"])[["it"]].mean())


def keyed(rows: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """Rows by (cluster, seed), their index, as `statistics` takes them."""
    each = zip(rows.index.tolist(), rows.to_numpy(dtype=float), strict=True)
    return {(str(cluster), int(seed)): list(row) for (cluster, seed), row in each}


def parts(cells: pd.DataFrame) -> np.ndarray:
    """UA, NRA and ORA of each cluster, in %: float (clusters, 3). No rows if a cell lacks one of these figures."""
    if not len(cells) or cells[list(PARTS)].isna().any(axis=None):
        return np.empty((0, len(PARTS)))
    return statistics.clusters(pooled(cells, PARTS))


def harmonic(cells: pd.DataFrame) -> Interval:
    """H of cells and its interval. There is no value if a cell lacks UA, NRA or ORA."""
    table = parts(cells)
    return statistics.interval(table, statistics.harmonic, 0, 100) if len(table) else statistics.NONE


def limits(metric: Metric) -> tuple[float, float]:
    """The range of a metric's value as boards show it."""
    by = 100 if metric.unit == "%" else 1
    return metric.low * by, metric.high * by


def figure(cells: pd.DataFrame, name: str) -> Interval:
    """The mean of a metric over cells, and its interval, as boards show them."""
    return statistics.of_cells(pooled(cells, [name]), *limits(METRICS.get(name)))


def images(cells: pd.DataFrame, name: str) -> int | None:
    """Number of images that a figure of these cells is computed from; None if the figure has no value."""
    counts = cells[[f"{part}_n" for part in (PARTS if name == H else (name,))]]
    lost = counts.isna().any(axis=None) if name == H else counts.isna().all(axis=None)
    return None if lost or not len(counts) else int(counts.sum().sum())


def shown(cells: pd.DataFrame) -> list[str]:
    """Names of the figures that a table of cells has: H, if UA, NRA and ORA were measured, and those of `SHOWN`."""
    return [*((H,) if set(PARTS) <= set(cells) else ()), *(name for name in SHOWN if name in cells)]


def figures(cells: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """NAME, NAME_lo and NAME_hi of each of the `shown` names, over these cells. A missing value is NaN."""
    row: dict[str, float] = {}
    for name in names:
        interval = harmonic(cells) if name == H else figure(cells, name)
        row |= {name: interval.mean, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
    return row


def spread(names: Sequence[str]) -> list[str]:
    """The columns of `figures`."""
    return [name + end for name in names for end in ("", "_lo", "_hi")]


def whole(cells: pd.DataFrame) -> bool:
    """Whether all of these cells are finished. A mean over fewer cells could not be compared with other methods."""
    return bool((cells["status"] == "ok").all())
