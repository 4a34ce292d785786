"""CLIP score of retained concepts: do their images still show what the whole prompt says."""

from __future__ import annotations

import torch

from metrics.base import Evidence, Metric, Score


def each(evidence: Evidence) -> torch.Tensor | None:
    """Cosine of each image and its prompt, float (N,). None in a world without a CLIP model."""
    return evidence.alignment


def compute(evidence: Evidence) -> Score | None:
    """Mean cosine between CLIP's embeddings of an image and of the prompt that asked for it, over retained concepts.

    -1 to 1, more is better. The plain cosine: not clipped at 0, not multiplied by 100 or by Hessel's 2.5. It compares
    within one CLIP model, the world's, which is in the fingerprint. None in a world without a CLIP model,
    and for a task that retains no concept.
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
