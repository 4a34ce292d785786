"""Head noun: whether a noun that several concepts share still gives one of the retained concepts."""

from __future__ import annotations

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts


def compute(evidence: Evidence) -> Score | None:
    """Share of the images whose prompt holds only a forgotten concept's head noun that show a retained concept of it.

    After "golden retriever" is forgotten, "a photo of a retriever" should show the other retriever. The value is 0 to
    1, more is better. An image of the forgotten concept counts as wrong, so a method can have a higher value than the
    pretrained model. Returns None if the head nouns of the forgotten concepts name no retained concept. Raises
    MissingEvidence.
    """
    nouns = evidence.headnoun
    if nouns is None:
        raise MissingEvidence("evidence.headnoun is missing: no images were drawn for head nouns alone")
    remaining = {concept: set(named) - set(evidence.forget) for concept, named in nouns.named.items()}
    measured = [concept for concept in evidence.forget if remaining.get(concept)]
    if evidence.forget and not measured:
        return None
    require_counts(nouns.requested, nouns.predicted, measured, evidence.counts)
    pairs = [(r, p) for r, p in zip(nouns.requested, nouns.predicted, strict=True) if r in measured]
    return Score(sum(p in remaining[r] for r, p in pairs) / len(pairs), len(pairs))


HEADNOUN = Metric(
    name="headnoun",
    about='share of images prompted with the head noun alone ("a retriever") that show one of its concepts that remain',
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Lethe",
    compute=compute,
    needs=("headnoun",),
)
