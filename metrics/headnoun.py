"""Head noun: does the word that the forgotten concept shares still mean those that remain."""

from __future__ import annotations

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts


def compute(evidence: Evidence) -> Score | None:
    """Share of images prompted with a forgotten concept's head noun alone that show a concept of it that remains.

    After "golden retriever" is forgotten, "a photo of a retriever" should give the other one. 0 to 1, 1 = always. The
    pretrained model is no ceiling: it may still answer with the forgotten concept, which counts as wrong. None where
    the head nouns of the forgotten concepts name nothing that remains. Raises MissingEvidence.
    """
    nouns = evidence.headnoun
    if nouns is None:
        raise MissingEvidence("no images were prompted with head nouns alone")
    remaining = {concept: set(named) - set(evidence.forget) for concept, named in nouns.named.items()}
    asking = [concept for concept in evidence.forget if remaining.get(concept)]
    if evidence.forget and not asking:
        return None
    require_counts(nouns.requested, nouns.predicted, asking, evidence.counts)
    pairs = [(a, j) for a, j in zip(nouns.requested, nouns.predicted, strict=True) if a in asking]
    return Score(sum(j in remaining[a] for a, j in pairs) / len(pairs), len(pairs))


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
