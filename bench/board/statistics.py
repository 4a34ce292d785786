"""Intervals, differences between methods and ranks, by a bootstrap over tasks.

A cluster is a task with all its training seeds and images, since claims generalise over tasks and the cells of one task
are similar. The bootstrap resamples whole clusters only. It does not resample seeds or images, since the spread between
clusters already contains the spread of seeds and images (Davison & Hinkley 1997, section 3.8). If there is only one
task, its training seeds are the clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats has both, but its import takes a second

RESAMPLES, CONFIDENCE = 10_000, 0.95
MISSING = 0.05  # largest share of resamples without a value

Statistic = Callable[[np.ndarray], np.ndarray]  # means of k quantities, float (..., k) -> value, float (...)
Cell = tuple[str, int]  # task, training seed


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval. `low` and `high` are NaN without an interval. All are NaN if `mean` is missing."""

    mean: float
    low: float = math.nan
    high: float = math.nan


NONE = Interval(math.nan)


def first(means: np.ndarray) -> np.ndarray:
    """The statistic for a plain mean: it returns the first quantity."""
    return means[..., 0]


def harmonic(means: np.ndarray) -> np.ndarray:
    """Harmonic mean of quantities that are at least 0. It is 0 where a quantity is 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return means.shape[-1] / (1 / np.maximum(means, 0)).sum(-1)


def clusters(cells: Mapping[Cell, Sequence[float]]) -> np.ndarray:
    """Means of k quantities over each cluster, float64 (clusters, k).

    With several tasks, each row is the mean over a task's seeds. With only one task, each row is one of its seeds.

    Raises ValueError if there are no cells, if tasks have different numbers of seeds, if cells have different numbers
    of quantities, or if a quantity is NaN.
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
    """A statistic of a table and its 95 % percentile-bootstrap interval.

    All tables with the same number of clusters use the same resamples.

    With few clusters, percentile intervals are too narrow for two reasons. For K clusters, the spread of the resamples
    is too small by a factor of sqrt((K-1)/K). The percentiles also correspond to a normal distribution, not to a t
    distribution. Both distances between the value and the ends of the interval are therefore widened (Hesterberg, What
    Teachers Should Know About the Bootstrap, 2015). The interval is then cut off at `low` and `high`.

    An interval of width 0 means that the tasks agreed. It does not mean that the value is certain. The value has no
    interval if there are fewer than two clusters, or if the statistic is NaN in more than one of twenty resamples.

    Args:
        table: means of k quantities over each cluster, float (clusters, k), as from `clusters`.
        statistic: computes the value from the means of the quantities over clusters.
        low, high: lowest and highest possible value of the statistic.
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
    """The mean of a figure over cells and its interval. The value is NaN if there are no cells."""
    return interval(clusters(cells), low=low, high=high) if cells else NONE


def difference(a: np.ndarray, b: np.ndarray, statistic: Statistic = first) -> Interval:
    """The paired difference: a statistic of `a` minus the same statistic of `b`, and its interval.

    Args:
        a, b: tables of the same clusters in the same order, float (clusters, k).
        statistic: computes the value from the means of the quantities over clusters.

    Raises ValueError if the tables have different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same clusters and quantities, not {a.shape} and {b.shape}")
    k = a.shape[1]
    return interval(np.concatenate([a, b], axis=1), lambda m: statistic(m[..., :k]) - statistic(m[..., k:]))


def ranks(tables: Mapping[str, np.ndarray], statistic: Statistic = first) -> dict[str, int]:
    """Rank of each table: 1 + number of significantly better tables. Higher values of the statistic are better.

    Table A is better than table B if A is higher and the interval of their paired difference excludes 0. A is also
    better than B if A is better than a third table that is better than B. Tables with the same rank do not differ
    significantly from each other.
    """
    names = list(tables)
    better = {(a, b) for a in names for b in names if a != b and difference(tables[a], tables[b], statistic).low > 0}
    for via in names:  # A is better than B if A is better than `via` and `via` is better than B
        better |= {(a, b) for a in names for b in names if (a, via) in better and (via, b) in better}
    return {name: 1 + sum((other, name) in better for other in names) for name in names}


@cache
def _shares(count: int) -> np.ndarray:
    """The share of each cluster among the draws of each resample, float64 (RESAMPLES, count). Each row sums to 1."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
