"""Uncertainty of a mean over cells."""

from __future__ import annotations

import numpy as np
from scipy.stats import bootstrap

RESAMPLES, CONFIDENCE = 2000, 0.95


def clustered_interval(clusters: list[list[float]]) -> tuple[float, float, float]:
    """Mean of cluster means, and its 95 % percentile-bootstrap interval: (mean, low, high).

    A cluster holds the values of one task, one for each training seed. Tasks are resampled, since they are what a
    claim generalises over; then seeds within each. One value alone has no interval: (value, nan, nan). An interval
    of no width says that all tasks agreed, not that the value is certain.

    Raises ValueError for no values, an empty cluster or a NaN.
    """
    if not clusters or any(not cluster for cluster in clusters) or np.isnan(np.concatenate(clusters)).any():
        raise ValueError("an interval needs at least one value in every cluster, and no NaN")
    means = np.array([np.mean(cluster) for cluster in clusters])
    mean = float(means.mean())
    if sum(map(len, clusters)) == 1:
        return mean, float("nan"), float("nan")
    rng = np.random.default_rng(0)
    if all(len(cluster) == 1 for cluster in clusters):
        found = bootstrap(
            (means,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=rng
        ).confidence_interval
        return mean, float(found.low), float(found.high)
    draws = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        chosen = rng.integers(len(clusters), size=len(clusters))
        draws[i] = np.mean([np.mean(rng.choice(clusters[c], size=len(clusters[c]))) for c in chosen])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return mean, float(low), float(high)
