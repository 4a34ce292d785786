"""KID of retained concepts: an unbiased alternative to FID."""

from __future__ import annotations

import numpy as np
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from metrics.base import Evidence, Metric, Score

SUBSETS = 100  # torch-fidelity's default


def compute(evidence: Evidence) -> Score | None:
    """Squared maximum mean discrepancy between the images of all retained concepts and their reference images.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), unbiased, k(x, y) = (x.y / D + 1)^3, over the world's features.
    torch-fidelity computes it as the mean over 100 random subsets. A subset has the size of the smaller set. If both
    sets have the same size, one subset is enough. Less is better. The expected value for equal distributions is 0, so
    a value can be negative. The images are those of FID. Returns None if the task retains no concept, if a
    retained concept has no reference images, or for fewer than two images or reference images. Raises MissingEvidence.
    """
    if not (evidence.retained and evidence.has_reference(evidence.retained)):
        return None
    drawn, real = evidence.features_of(evidence.retained)
    size = min(len(drawn), len(real))
    if size < 2:
        return None
    rows = drawn.numpy()
    in_order = rows[np.lexsort(rows.T)]  # subsets are drawn by position, and the order of the images must not matter
    subsets = SUBSETS if len(drawn) != len(real) else 1  # with equal sizes every subset is the whole set
    mean_and_deviation = kid_features_to_metric(
        torch.from_numpy(in_order), real, kid_subsets=subsets, kid_subset_size=size, rng_seed=0, verbose=False
    )
    return Score(mean_and_deviation[KEY_METRIC_KID_MEAN], len(drawn))


KID = Metric(
    name="kid",
    about="kernel distance (unbiased MMD^2) of the retained concepts' images from real pictures, same features as fid",
    unit="",
    higher_is_better=False,
    low=-float("inf"),
    high=float("inf"),
    source="Binkowski et al., ICLR 2018; torch-fidelity",
    compute=compute,
    distribution=True,
    digits=3,
)
