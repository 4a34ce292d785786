"""The three accuracies of UnlearnCanvas, over all images that UnlearnCanvas's evaluation scripts count."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score

SOURCE = "Zhang et al., UnlearnCanvas, NeurIPS 2024: as the released scripts count"


def counts_otherwise(evidence: Evidence) -> bool:
    """Whether UnlearnCanvas's scripts count images that UA, NRA and ORA leave out."""
    concepts = evidence.forget + evidence.retained
    return bool(evidence.held_out) or evidence.rows(concepts) != evidence.rows(concepts, whole=True)


def held_out(evidence: Evidence, in_domain: bool) -> tuple[str, ...]:
    """The held-out concepts in the domains of the forgotten concepts (`in_domain`), or those in other domains."""
    members = {member for domain in evidence.domains.values() for member in domain}
    return tuple(concept for concept in evidence.held_out if (concept in members) == in_domain)


def unlearned(evidence: Evidence) -> Score | None:
    """UA over all images of the forgotten concepts, 0 to 1, more is better. Images in a held-out style are included.

    Returns None if UA counts the same images. Raises MissingEvidence.
    """
    if not counts_otherwise(evidence):
        return None
    kept = evidence.accuracy(evidence.forget, whole=True)
    return Score(1 - kept.value, kept.n)


def in_domain(evidence: Evidence) -> Score | None:
    """IRA: NRA with the held-out concepts of the forgotten concepts' domains, 0 to 1, more is better.

    Returns None if there is no such concept, or if UA, NRA and ORA count the same images. Raises MissingEvidence.
    """
    concepts = evidence.in_domain + held_out(evidence, in_domain=True)
    return evidence.accuracy(concepts, whole=True) if concepts and counts_otherwise(evidence) else None


def cross_domain(evidence: Evidence) -> Score | None:
    """CRA: ORA with the held-out concepts of other domains, 0 to 1, more is better.

    Images whose prompts also name the forgotten concept are included: an image of a dog in a forgotten style counts as
    an image of a dog. Returns None if there is no such concept, or if UA, NRA and ORA count the same images. Raises
    MissingEvidence.
    """
    concepts = evidence.out_of_domain + held_out(evidence, in_domain=False)
    return evidence.accuracy(concepts, whole=True) if concepts and counts_otherwise(evidence) else None


UC_UA = Metric(
    name="uc_ua",
    about="UA as UnlearnCanvas counts it: images in the style of the seed pictures included",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source=SOURCE,
    compute=unlearned,
)

UC_IRA = Metric(
    name="uc_ira",
    about="IRA as UnlearnCanvas counts it: NRA with the style of the seed pictures among the styles",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source=SOURCE,
    compute=in_domain,
    retention=True,
)

UC_CRA = Metric(
    name="uc_cra",
    about="CRA as UnlearnCanvas counts it: ORA with images that also ask for the forgotten concept",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source=SOURCE,
    compute=cross_domain,
    retention=True,
)
