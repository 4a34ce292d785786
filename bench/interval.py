"""Uncertainty of a mean over tasks and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES, CONFIDENCE = 5000, 0.95


def clustered_interval(clusters: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean over all values, and its 95 % percentile-bootstrap interval: (mean, low, high).

    A cluster holds the values of one task, one for each training seed, as many in each. Tasks are resampled, since
    they are what a claim generalises over, then seeds within each (Davison & Hinkley 1997, section 3.8). One value
    alone has no interval: (value, nan, nan). An interval without width says that tasks agreed, not that it is certain.

    Raises ValueError for no values, clusters of different sizes, or a NaN.
    """
    if not clusters or len({len(cluster) for cluster in clusters}) > 1:
        raise ValueError("an interval needs tasks with the same number of seeds each")
    values = np.array(clusters, dtype=float)
    if not values.size or np.isnan(values).any():
        raise ValueError("an interval needs at least one value for each task, and no NaN")
    mean = float(values.mean())
    if values.size == 1:
        return mean, float("nan"), float("nan")
    tasks, seeds = values.shape
    rng = np.random.default_rng(0)
    drawn_tasks = rng.integers(tasks, size=(RESAMPLES, tasks, 1))
    drawn_seeds = rng.integers(seeds, size=(RESAMPLES, tasks, seeds))
    means = values[drawn_tasks, drawn_seeds].mean(axis=(1, 2))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return mean, float(low), float(high)
