"""UA, unlearning accuracy: how often the forgotten concept no longer appears in its images."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score:
    """1 - accuracy of the classifier on the images of the forgotten concepts, 0 to 1, more is better.

    Raises MissingEvidence.
    """
    kept = evidence.accuracy(evidence.forget)
    return Score(1 - kept.value, kept.n)


UA = Metric(
    name="ua",
    about="unlearning accuracy: 1 - accuracy on images prompted with the forgotten concept",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Zhang et al., UnlearnCanvas, NeurIPS 2024",
    compute=compute,
    along=True,
    headline=True,
)
