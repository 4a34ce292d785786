"""The images that methods learn from: samples of the original backbone for the training prompts.

They are sampled once for each concept, and all methods share them. The sampler's final latents are stored, because
decoding and encoding them would add the error of the VAE.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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


@dataclass(frozen=True)
class Batch:
    """Some examples. A method that does not read `latents` has used only the prompts.

    Args:
        prompt_embeds: embeddings of the prompts that the images were sampled from, float32 (B, tokens, width).
        concepts: the concept of each example.
        templates: for each example, the index of its prompt among the prompts of its concept.
        read: loads `latents`.

    Example:
        >>> batch = next(harness.forget_batches(4))
        >>> len(batch), batch.prompt_embeds.shape
        (4, torch.Size([4, 20, 32]))
        >>> len(harness.data_use.forget_images)  # nothing has read the latents
        0
        >>> batch.latents.shape
        torch.Size([4, 4, 16, 16])
        >>> len(harness.data_use.forget_images)
        4
    """

    prompt_embeds: torch.Tensor
    concepts: tuple[str, ...]
    templates: tuple[int, ...]
    read: Callable[[], torch.Tensor] = field(repr=False)

    @cached_property
    def latents(self) -> torch.Tensor:
        """Clean latents z_0, float32 (B, C, h, w), on the run's device. Reading them counts as using the images."""
        return self.read()

    def __len__(self) -> int:
        return len(self.concepts)


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
