"""NRA, near retention accuracy: the accuracy on the forgotten concept's neighbours."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Accuracy of the classifier on the images of the other concepts of the domain, 0 to 1, more is better.

    Returns None if the task retains no other concept of the forgotten concepts' domains. Raises MissingEvidence.
    """
    return evidence.accuracy(evidence.in_domain) if evidence.in_domain else None


NRA = Metric(
    name="nra",
    about="near retention accuracy: accuracy on images prompted with the other concepts of the forgotten one's domain",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="fine-grained protocol named in arXiv 2603.00992; this definition is Lethe's",
    compute=compute,
    retention=True,
    along=True,
    headline=True,
)
