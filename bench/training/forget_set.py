"""The images that methods learn from: samples of the original backbone for the training prompts.

They are sampled once for each concept, and all methods share them. The sampler's final latents are stored, because
decoding and encoding them would add the error of the VAE.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, image_specs, sample
from bench.core.config import Protocol
from bench.core.store import Store


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


def build(
    store: Store,
    backbone: Backbone,
    protocol: Protocol,
    prompts: Mapping[str, tuple[str, ...]],
    keys: Mapping[str, Mapping[str, Any]],
    count: int,
    batch: int,
) -> LatentSet:
    """`count` latents of each concept in `keys`, from the store, or sampled now and stored.

    Args:
        backbone: the pipeline with its original weights.
        prompts: concept -> its training prompts.
        keys: concept -> the cache key of its latents.
        count: images of each concept.
        batch: images that are sampled at once.
    """
    parts: dict[str, torch.Tensor] = {}
    for concept in _rotated([*keys]):
        specs = image_specs(prompts[concept], count)
        parts[concept] = _latents(store, backbone, protocol, concept, keys[concept], specs, batch)
    names = [concept for concept in keys for _ in range(count)]
    templates = [i % len(prompts[concept]) for concept in keys for i in range(count)]
    return LatentSet(torch.cat([parts[concept] for concept in keys]), tuple(names), tuple(templates))


def _rotated(concepts: list[str]) -> list[str]:
    """The concepts, starting from one that depends on the process, so that processes share the work."""
    start = zlib.crc32(f"{os.uname().nodename} {os.getpid()}".encode()) % max(1, len(concepts))
    return concepts[start:] + concepts[:start]


def _latents(
    store: Store,
    backbone: Backbone,
    protocol: Protocol,
    concept: str,
    key: Mapping[str, Any],
    specs: Sequence[ImageSpec],
    batch: int,
) -> torch.Tensor:
    def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        latents = sample(backbone, specs, protocol, protocol.forget_seed, batch, as_images=False)
        return {"latents": latents}, {"concept": concept}

    return store.stage("latents", key, compute).tensors()["latents"]
