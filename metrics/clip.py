"""CLIP score of retained concepts: how well their images match their prompts."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, Score


def each(evidence: Evidence) -> torch.Tensor | None:
    """Cosine of each image and its prompt, float (N,), -1 to 1. None if the world has no CLIP model."""
    return evidence.alignment


def compute(evidence: Evidence) -> Score | None:
    """Mean cosine of the CLIP embeddings of an image and of its prompt, over the images of retained concepts.

    The value is -1 to 1, more is better. It is the plain cosine, which is neither clipped at 0 nor multiplied by 100 or
    by Hessel's 2.5. Values of different CLIP models must not be compared, so the fingerprint contains the world's CLIP
    model. Returns None if the world has no CLIP model or the task retains no concept. Raises MissingEvidence.
    """
    values = each(evidence)
    return None if values is None or not evidence.retained else evidence.mean(values, evidence.retained)


CLIP = Metric(
    name="clip",
    about="mean cosine of a retained concept's image and its prompt under the world's CLIP model",
    unit="",
    higher_is_better=True,
    low=-1.0,
    high=1.0,
    source="Radford et al., ICML 2021; Hessel et al., EMNLP 2021; open_clip",
    compute=compute,
    retention=True,
    each=each,
    digits=3,
)
