"""Plausibility of the images of forgotten prompts: whether a method forgets the concept or ruins the model."""

from __future__ import annotations

import torch
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, prc_features_to_metric

from metrics.base import Evidence, Metric, Score, require_features

NEIGHBOURHOOD = 10  # the paper uses 3, but few images of the pretrained model lie that close to a reference image


def compute(evidence: Evidence) -> Score | None:
    """Precision of the images of forgotten prompts against the reference images of the concept's whole domain.

    An image counts if some reference image is nearer to it, in the world's feature space, than to its own tenth nearest
    reference image. torch-fidelity computes this. The value is 0 to 1, more is better. The pretrained model's value
    shows what good images reach. An image of the forgotten concept counts as plausible; UA says whether it shows the
    concept. Returns None if a domain has at most ten reference images, or a concept of it has none. Raises
    MissingEvidence.
    """
    evidence.require(evidence.forget)
    right, n = 0.0, 0
    for concept in evidence.forget:
        members = evidence.domains[concept]
        reference = evidence.domain_reference or {}
        require_features([c for c in members if c not in reference], evidence)
        if not all(len(reference[c]) for c in members):
            return None
        real = torch.cat([reference[c] for c in members]).double()
        if len(real) <= NEIGHBOURHOOD:
            return None
        drawn = evidence.features[evidence.rows([concept])].double()
        # the library also computes recall, which needs more than k images; repeated rows do not change precision
        precision_and_recall = prc_features_to_metric(
            drawn.repeat(NEIGHBOURHOOD + 1, 1), real, prc_neighborhood=NEIGHBOURHOOD, verbose=False
        )
        right, n = right + precision_and_recall[KEY_METRIC_PRECISION] * len(drawn), n + len(drawn)
    return Score(right / n, n)


def compute_domain(evidence: Evidence) -> Score | None:
    """Share of the images of forgotten prompts for which the judge predicts a member of the concept's domain.

    The forgotten concept is a member too. The value is 0 to 1, more is better. Returns None if every label of the judge
    is a member of the domain, because the value would always be 1. A judge of styles is an example. Raises
    MissingEvidence.
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
