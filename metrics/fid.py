"""FID of retained concepts: the image quality of the concepts that the model must keep."""

from __future__ import annotations

import torch
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Frechet distance between the images of all retained concepts and the reference images of these concepts.

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) over the features of the world's extractor. torch-fidelity computes it.
    The value is at least 0, less is better. The bias of FID depends on the number of images, so the number is the same
    for every method. An image whose prompt also names the forgotten concept is left out. Images of different tasks are
    not pooled: tasks share their initial noise, so a model that drifts from task to task would look more diverse than
    the pretrained model. Compare values within one board only; the board shows the number of images and the extractor.
    Returns None if the task retains no concept, if a retained concept has no reference images, or for fewer than two
    images or reference images, which have no covariance. Raises MissingEvidence.
    """
    if not (evidence.retained and evidence.has_reference(evidence.retained)):
        return None
    return distance(*evidence.features_of(evidence.retained))


def distance(drawn: torch.Tensor, real: torch.Tensor) -> Score | None:
    """The Frechet distance of two sets of features, float64 (N, D) and (M, D); None if one has fewer than two rows."""
    if min(len(drawn), len(real)) < 2:
        return None
    statistics = (fid_features_to_statistics(drawn), fid_features_to_statistics(real))
    return Score(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID], len(drawn))


FID = Metric(
    name="fid",
    about="Frechet distance of the retained concepts' images from real pictures, in the world's feature space",
    unit="",
    higher_is_better=False,
    low=0.0,
    high=float("inf"),
    source="Heusel et al., NeurIPS 2017; torch-fidelity",
    compute=compute,
    distribution=True,
    headline=True,
)
