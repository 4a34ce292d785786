"""UnlearnCanvas's own count: its three accuracies with every image that its evaluation scripts take in."""

from __future__ import annotations

from metrics.base import Evidence, Metric, Score

SOURCE = "Zhang et al., UnlearnCanvas, NeurIPS 2024: as the released scripts count"


def counts_otherwise(evidence: Evidence) -> bool:
    """Whether this count takes in images that UA, NRA and ORA leave out."""
    concepts = evidence.forget + evidence.retained
    return bool(evidence.held_out) or evidence.rows(concepts) != evidence.rows(concepts, whole=True)


def beside(evidence: Evidence, near: bool) -> tuple[str, ...]:
    """The concepts aside that are of the forgotten ones' kind (`near`), or that are not."""
    kin = {member for members in evidence.domains.values() for member in members}
    return tuple(concept for concept in evidence.held_out if (concept in kin) == near)


def unlearned(evidence: Evidence) -> Score | None:
    """UA over all images of the forgotten concept, those in a style aside too. None where that changes nothing."""
    if not counts_otherwise(evidence):
        return None
    kept = evidence.accuracy(evidence.forget, whole=True)
    return Score(1 - kept.value, kept.n)


def in_domain(evidence: Evidence) -> Score | None:
    """IRA: NRA with concepts aside that are of the forgotten one's kind.

    None where that changes nothing, or where there is no such concept.
    """
    concepts = evidence.in_domain + beside(evidence, near=True)
    return evidence.accuracy(concepts, whole=True) if concepts and counts_otherwise(evidence) else None


def cross_domain(evidence: Evidence) -> Score | None:
    """CRA: ORA with images that also ask for the forgotten concept, and with concepts aside that are not of its kind.

    A picture of a forgotten style's dog counts here as one of a dog. None where that changes nothing, or where there is
    no such concept.
    """
    concepts = evidence.out_of_domain + beside(evidence, near=False)
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
