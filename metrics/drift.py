"""Drift of retained concepts: how much their images changed, even if the accuracy did not."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score


def cosine_distances(evidence: Evidence) -> torch.Tensor:
    """1 - cosine of the judge features of each image and of the pretrained model's image: float64 (N,), 0 to 2.

    Both images have the same prompt and the same noise. The features are the input of the last layer of the judge that
    knows the concept. Raises MissingEvidence.
    """
    mine, theirs = (torch.nn.functional.normalize(side, dim=1) for side in _pair(evidence, "penultimate"))
    return (mine - theirs).square().sum(1) / 2  # equals 1 - cosine, and is exactly 0 for equal features


def latent_distances(evidence: Evidence) -> torch.Tensor:
    """Root mean square difference of the final latents of each image and of the pretrained model's: float64 (N,).

    Both images have the same prompt and the same noise. Values are at least 0. Raises MissingEvidence.
    """
    mine, theirs = _pair(evidence, "latents")
    return (mine - theirs).flatten(1).square().mean(1).sqrt()


def _pair(evidence: Evidence, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    before = evidence.pretrained
    if before is None or before.requested != evidence.requested:
        raise MissingEvidence(
            "drift needs the pretrained model's image for every prompt and noise seed, in the same order"
        )
    mine, theirs = getattr(evidence, name).double(), getattr(before, name).double()
    if not len(mine) == len(theirs) == len(evidence.requested):
        raise MissingEvidence(
            f"{len(evidence.requested)} images were requested, but {min(len(mine), len(theirs))} were measured"
        )
    return mine, theirs


def compute(evidence: Evidence) -> Score | None:
    """Mean of `cosine_distances` over the images of retained concepts.

    The value is 0 to 2, less is better. It is exactly 0 for the pretrained model. Returns None if the task retains no
    concept. Raises MissingEvidence.
    """
    return evidence.mean(cosine_distances(evidence), evidence.retained) if evidence.retained else None


def compute_latent(evidence: Evidence) -> Score | None:
    """Mean of `latent_distances` over the images of retained concepts.

    The value is at least 0, less is better. Its unit is that of the latents, whose variance is about 1 after the VAE's
    scaling. Two unrelated images have a distance of about 1.4. The value is exactly 0 for the pretrained model. Returns
    None if the task retains no concept. Raises MissingEvidence.
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
