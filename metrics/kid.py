"""KID of retained concepts: FID's question, asked without FID's bias."""

from __future__ import annotations

import numpy as np
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from metrics.base import Evidence, Metric, MissingEvidence, Score

SUBSETS = 100  # torch-fidelity's default


def compute(evidence: Evidence) -> Score | None:
    """Squared maximum mean discrepancy between images of the retained concepts and real pictures of the same.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), unbiased, k(x, y) = (x.y / D + 1)^3, over the world's features, by
    torch-fidelity's code: the mean over 100 random subsets, or of one where that is all of both sets. A subset has the
    size of the smaller set, so it holds every drawn image where there are more real ones. 0 is expected for equal
    distributions; a value may fall below it. Same pooled N as FID. Raises MissingEvidence, also for fewer than two
    pictures. None for a task that retains no concept.
    """
    if not evidence.retained:
        return None
    drawn, real = evidence.features_of(evidence.retained)
    size = min(len(drawn), len(real))
    if size < 2:
        raise MissingEvidence(f"KID needs two images and two real pictures; there are {len(drawn)} and {len(real)}")
    rows = drawn.numpy()
    in_order = rows[np.lexsort(rows.T)]  # subsets are drawn by position: the images' own order must not matter
    subsets = SUBSETS if len(drawn) != len(real) else 1  # each is all of both then
    found = kid_features_to_metric(
        torch.from_numpy(in_order), real, kid_subsets=subsets, kid_subset_size=size, rng_seed=0, verbose=False
    )
    return Score(found[KEY_METRIC_KID_MEAN], len(drawn))


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
