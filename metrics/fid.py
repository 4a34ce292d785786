"""FID of retained concepts: how good the pictures are that should not have changed."""

from __future__ import annotations

from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Frechet distance between images of the retained concepts, pooled, and real pictures of the same concepts.

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) over the features of the world's extractor, by torch-fidelity's code.
    FID's bias depends on N, so N is the same for every method: all evaluation images of the task's retained concepts,
    without those that ask for the forgotten one as well. Tasks are not pooled: they share their initial noise, so a
    model that drifts from task to task would seem more varied than the pretrained one. Figures compare within one
    board; N and extractor are printed beside them. None for a task that retains no concept.
    """
    if not evidence.retained:
        return None
    drawn, real = evidence.features_of(evidence.retained)
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
