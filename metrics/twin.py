"""Twin accuracy: what became of the one concept that is hardest to keep."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Accuracy of the classifier on images prompted with the nearest neighbour of each forgotten concept alone.

    Nearest to the text encoder, among the concepts of the domain that the task keeps. 0 to 1, 1 = all kept. None for a
    task that keeps no such concept. Raises MissingEvidence.
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
