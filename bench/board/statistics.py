"""Intervals, differences between methods and ranks, by a bootstrap over tasks.

A cluster is a task with all its training seeds and images: claims generalise over tasks, and cells of one task are
alike. The bootstrap resamples whole clusters and nothing within them, as the spread between clusters already contains
that of seeds and images (Davison & Hinkley 1997, section 3.8). If there is only one task, its training seeds are the
clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats has these too, but its import takes a second

RESAMPLES, CONFIDENCE = 10_000, 0.95
MISSING = 0.05  # largest share of resamples that may have no value

Statistic = Callable[[np.ndarray], np.ndarray]  # means of k quantities, (..., k) -> a value of each, (...)
Cell = tuple[str, int]  # task, training seed


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval. `low` and `high` are NaN for one cluster. All three are NaN without a value."""

    mean: float
    low: float = math.nan
    high: float = math.nan


NONE = Interval(math.nan)


def first(means: np.ndarray) -> np.ndarray:
    """The statistic of a plain mean: the first quantity itself."""
    return means[..., 0]


def harmonic(means: np.ndarray) -> np.ndarray:
    """Harmonic mean of quantities from 0 up; 0 where one of them is 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return means.shape[-1] / (1 / np.maximum(means, 0)).sum(-1)


def clusters(cells: Mapping[Cell, Sequence[float]]) -> np.ndarray:
    """Means of k quantities over each cluster, float (clusters, k): over a task's seeds, or of one task each seed.

    Raises ValueError for no cells, tasks with different numbers of seeds, rows of different length, or a NaN.
    """
    tasks: dict[str, list[Sequence[float]]] = {}
    for task, seed in sorted(cells):
        tasks.setdefault(task, []).append(cells[task, seed])
    if not tasks or len({len(rows) for rows in tasks.values()}) > 1:
        raise ValueError("statistics need tasks with the same number of seeds each")
    if len({len(row) for row in cells.values()}) > 1:
        raise ValueError("statistics need the same quantities of every cell")
    values = np.array(list(tasks.values()), dtype=float)
    if np.isnan(values).any():
        raise ValueError("statistics need a value for each cell, and no NaN")
    return values.mean(1) if len(tasks) > 1 else values[0]


def interval(
    table: np.ndarray, statistic: Statistic = first, low: float = -math.inf, high: float = math.inf
) -> Interval:
    """A statistic of a table (clusters, k), as `clusters` makes it, and its 95 % percentile-bootstrap interval.

    The same resamples for every table of as many clusters. Few clusters make percentiles too narrow: by sqrt((K-1)/K)
    for K clusters, and by taking a normal for a t distribution. Both distances from the value are widened accordingly
    (Hesterberg, What Teachers Should Know About the Bootstrap, 2015), then cut off at what the statistic can be, `low`
    to `high`. An interval without width says that tasks agreed, not that it is certain. A value without interval: fewer
    than two clusters, or more than one in twenty resamples in which the statistic has no value.
    """
    value = float(statistic(table.mean(0)))
    count = len(table)
    if count < 2 or math.isnan(value):
        return Interval(value)
    drawn = statistic(_shares(count) @ table)
    if np.isnan(drawn).mean() > MISSING:
        return Interval(value)
    tail = (1 - CONFIDENCE) / 2
    below, above = np.nanquantile(drawn, [tail, 1 - tail])
    wider = float(stdtrit(count - 1, tail) / ndtri(tail) * math.sqrt(count / (count - 1)))
    ends = value - wider * max(value - below, 0.0), value + wider * max(above - value, 0.0)
    return Interval(value, max(float(ends[0]), low), min(float(ends[1]), high))


def of_cells(cells: Mapping[Cell, Sequence[float]], low: float = -math.inf, high: float = math.inf) -> Interval:
    """The mean of a figure over cells, and its interval. There is no value without cells."""
    return interval(clusters(cells), low=low, high=high) if cells else NONE


def difference(a: np.ndarray, b: np.ndarray, statistic: Statistic = first) -> Interval:
    """How much a statistic of `a` exceeds that of `b`, tables of the same clusters in the same order: paired."""
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same clusters and quantities, not {a.shape} and {b.shape}")
    k = a.shape[1]
    return interval(np.concatenate([a, b], axis=1), lambda m: statistic(m[..., :k]) - statistic(m[..., k:]))


def ranks(tables: Mapping[str, np.ndarray], statistic: Statistic = first) -> dict[str, int]:
    """Rank of each table by a statistic of which higher values are better: 1 + number of significantly better tables.

    A table is better than another if the interval of their paired difference excludes 0, or if it is better than a
    third one that is better than the other. Tables that share a rank do not differ significantly from each other.
    """
    names = list(tables)
    better = {(a, b) for a in names for b in names if a != b and difference(tables[a], tables[b], statistic).low > 0}
    for via in names:  # better than a method that is itself better
        better |= {(a, b) for a in names for b in names if (a, via) in better and (via, b) in better}
    return {name: 1 + sum((other, name) in better for other in names) for name in names}


@cache
def _shares(count: int) -> np.ndarray:
    """How often each cluster is drawn in each resample, as a share: (RESAMPLES, count)."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
