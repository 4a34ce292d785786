"""Plausibility of what the forgotten prompt now gives: it separates forgetting from wrecking."""

from __future__ import annotations

import torch
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, prc_features_to_metric

from metrics.base import Evidence, Metric, MissingEvidence, Score

NEIGHBOURHOOD = 10  # not the paper's 3: that near a real picture even the untouched model's soft ones seldom come


def compute(evidence: Evidence) -> Score | None:
    """Precision of the images prompted with forgotten concepts, against real pictures of their whole domain.

    The share that lies, in the world's features, within some real picture's distance to its tenth nearest real
    neighbour; by torch-fidelity's code. 0 to 1, more is better, and the pretrained model's value is what a good
    picture gets. A picture of the forgotten concept itself counts as plausible: UA says whether it is one. None where a
    domain has no more than ten real pictures, so that none of them has a tenth neighbour. Raises MissingEvidence.
    """
    evidence.require(evidence.forget)
    right, n = 0.0, 0
    for concept in evidence.forget:
        members = evidence.domains[concept]
        kin = evidence.domain_reference or {}
        missing = [c for c in members if c not in kin]
        if missing or len(evidence.features) != len(evidence.requested):
            raise MissingEvidence(f"no real pictures of {missing}, or features of only {len(evidence.features)} images")
        real = torch.cat([kin[c] for c in members]).double()
        if len(real) <= NEIGHBOURHOOD:
            return None
        drawn = evidence.features[evidence.rows([concept])].double()
        # repeated rows leave precision alone, and spare its library's recall, unused here, from running out of images
        found = prc_features_to_metric(
            drawn.repeat(NEIGHBOURHOOD + 1, 1), real, prc_neighborhood=NEIGHBOURHOOD, verbose=False
        )
        right, n = right + found[KEY_METRIC_PRECISION] * len(drawn), n + len(drawn)
    return Score(right / n, n)


def compute_domain(evidence: Evidence) -> Score | None:
    """Share of the images prompted with forgotten concepts in which the judge sees a member of their domain.

    The forgotten concept is a member too. 0 to 1, more is better. None where the judge knows nothing but members, as
    a judge of styles does: it could not say otherwise. Raises MissingEvidence.
    """
    members = {member for concept in evidence.forget for member in evidence.domains[concept]}
    if evidence.labels and evidence.labels <= members:
        return None
    evidence.require(evidence.forget)
    inside = [j in evidence.domains.get(a, ()) for a, j in zip(evidence.requested, evidence.predicted, strict=True)]
    return evidence.mean(inside, evidence.forget)


PLAUSIBLE = Metric(
    name="plausible",
    about="precision of the forgotten prompt's images against real pictures of its domain (k = 10, features as in fid)",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Kynkäänniemi et al., NeurIPS 2019; torch-fidelity",
    compute=compute,
    needs=("domain_reference",),
)

PLAUSIBLE_DOMAIN = Metric(
    name="plausible_domain",
    about="share of the forgotten prompt's images in which the judge still sees some concept of the domain",
    unit="%",
    higher_is_better=True,
    low=0.0,
    high=1.0,
    source="Lethe",
    compute=compute_domain,
)
