"""Twin accuracy: the accuracy on the forgotten concept's nearest neighbour."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Accuracy of the classifier on the images of each forgotten concept's nearest neighbour, 0 to 1, more is better.

    The nearest neighbour is the retained concept of the same domain with the closest text embedding. Returns None if
    the task retains no concept of the domain. Raises MissingEvidence.
    """
    return evidence.accuracy(evidence.nearest) if evidence.in_domain else None


TWIN = Metric(
    name="twin",
    about="accuracy on images prompted with the forgotten concept's nearest neighbour, by text embedding",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Lethe",
    compute=compute,
    retention=True,
    along=True,
    headline=True,
)
