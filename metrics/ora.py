"""ORA, outer retention accuracy: the accuracy on concepts of other domains."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score


def compute(evidence: Evidence) -> Score | None:
    """Accuracy of the classifier on the images of concepts of other domains, 0 to 1, more is better.

    Returns None if the task retains no concept outside the forgotten concepts' domains. Raises MissingEvidence.
    """
    return evidence.accuracy(evidence.out_of_domain) if evidence.out_of_domain else None


ORA = Metric(
    name="ora",
    about="outer retention accuracy: accuracy on images prompted with the concepts of other domains",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="fine-grained protocol named in arXiv 2603.00992; this definition is Lethe's",
    compute=compute,
    retention=True,
    headline=True,
)
