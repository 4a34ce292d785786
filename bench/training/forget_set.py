"""The images that methods learn from: samples of the original backbone for the training prompts.

They are sampled once for each concept, and all methods share them. The sampler's final latents are stored, because
decoding and encoding them would add the error of the VAE.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LatentSet:
    """Clean latents and the prompts that they were sampled from.

    Args:
        latents: z_0 at the U-Net's scale, float32 (N, C, h, w).
        concepts: the concept of each.
        templates: for each, the index of its prompt among the training prompts of its concept.

    Example:
        >>> examples = LatentSet(torch.zeros(2, 4, 16, 16), ("cat", "dog"), (0, 1))
        >>> examples.take([1]).concepts
        ('dog',)
    """

    latents: torch.Tensor
    concepts: tuple[str, ...]
    templates: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.concepts)

    def take(self, indices: Sequence[int]) -> LatentSet:
        """The examples at `indices`, in that order."""
        return LatentSet(
            self.latents[list(indices)],
            tuple(self.concepts[i] for i in indices),
            tuple(self.templates[i] for i in indices),
        )


def joined(latents: Mapping[str, torch.Tensor], prompts: Mapping[str, tuple[str, ...]]) -> LatentSet:
    """The latents of several concepts as one set; image i of a concept comes from prompt i, modulo their number.

    Args:
        latents: concept -> float32 (count, C, h, w).
        prompts: concept -> its forget prompts.
    """
    rows = [(concept, i % len(prompts[concept])) for concept, each in latents.items() for i in range(len(each))]
    concepts, templates = tuple(concept for concept, _ in rows), tuple(template for _, template in rows)
    return LatentSet(torch.cat([*latents.values()]), concepts, templates)


def in_own_order(concepts: Sequence[str]) -> list[str]:
    """The concepts, beginning with one that differs from process to process, so that processes share the drawing."""
    start = zlib.crc32(f"{os.uname().nodename} {os.getpid()}".encode()) % max(1, len(concepts))
    return [*concepts[start:], *concepts[:start]]
