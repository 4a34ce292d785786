"""Drift of retained concepts: how far their pictures moved, where accuracy still says that nothing happened."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score


def cosine_distances(evidence: Evidence) -> torch.Tensor:
    """1 - cosine of each image's judge features and those of the pretrained model's image on the same noise: (N,).

    The features are what the judge that knows the concept feeds to its last layer. Raises MissingEvidence.
    """
    mine, theirs = (torch.nn.functional.normalize(side, dim=1) for side in _pair(evidence, "penultimate"))
    return (mine - theirs).square().sum(1) / 2  # the same number, and exactly 0 for equal features


def latent_distances(evidence: Evidence) -> torch.Tensor:
    """Root mean square difference of each image's final latents from the pretrained model's on the same noise: (N,).

    Raises MissingEvidence.
    """
    mine, theirs = _pair(evidence, "latents")
    return (mine - theirs).flatten(1).square().mean(1).sqrt()


def _pair(evidence: Evidence, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    before = evidence.pretrained
    if before is None or before.requested != evidence.requested:
        raise MissingEvidence(
            "drift needs the pretrained model's image of every prompt and noise seed, in the same order"
        )
    mine, theirs = getattr(evidence, name).double(), getattr(before, name).double()
    if not len(mine) == len(theirs) == len(evidence.requested):
        raise MissingEvidence(
            f"{len(evidence.requested)} images were asked for, {min(len(mine), len(theirs))} measured"
        )
    return mine, theirs


def compute(evidence: Evidence) -> Score | None:
    """Mean of `cosine_distances` over the images of retained concepts: 0 = the same picture, at most 2, less is better.

    The pretrained model's own is exactly 0. None for a task that retains no concept. Raises MissingEvidence.
    """
    return evidence.mean(cosine_distances(evidence), evidence.retained) if evidence.retained else None


def compute_latent(evidence: Evidence) -> Score | None:
    """Mean of `latent_distances` over the images of retained concepts: 0 = the same picture, less is better.

    In units of the latents, which the VAE's scaling factor brings to about unit variance: unrelated pictures lie near
    1.4. The pretrained model's own is exactly 0. None for a task that retains no concept. Raises MissingEvidence.
    """
    return evidence.mean(latent_distances(evidence), evidence.retained) if evidence.retained else None


DRIFT = Metric(
    name="drift",
    about="mean cosine distance, in judge features, of a retained concept's image from the pretrained model's",
    unit="",
    higher_is_better=False,
    low=0.0,
    high=2.0,
    source="Lethe",
    compute=compute,
    each=cosine_distances,
    needs=("pretrained",),
    headline=True,
    digits=3,
)

DRIFT_LATENT = Metric(
    name="drift_latent",
    about="mean RMS difference, in latents, of a retained concept's image from the pretrained model's",
    unit="",
    higher_is_better=False,
    low=0.0,
    high=float("inf"),
    source="Lethe",
    compute=compute_latent,
    each=latent_distances,
    needs=("pretrained",),
    digits=3,
)
