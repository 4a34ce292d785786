"""The images methods may learn from: what the untouched backbone draws for the forget split's prompts.

Built once for each concept and shared by every method. The sampler's final latents are kept as they are: decoding
and encoding them again would only add the VAE's error to them.
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
    """Latents with what they show.

    Args:
        latents: float32 (N, C, h, w), at the U-Net's scale (clean, t = 0).
        concepts: what each was asked to show.
        templates: which of its concept's forget prompts asked for it.
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
    """`count` latents of each concept in `keys`, from the store or drawn now with the backbone's untouched weights.

    Args:
        prompts: concept -> its forget prompts.
        keys: concept -> what its latents are stored under.
        batch: images at a time.
    """
    parts: dict[str, torch.Tensor] = {}
    for concept in _from_anywhere([*keys]):
        wanted = image_specs(prompts[concept], count)
        parts[concept] = _concept(store, backbone, protocol, concept, keys[concept], wanted, batch)
    names = [concept for concept in keys for _ in range(count)]
    templates = [i % len(prompts[concept]) for concept in keys for i in range(count)]
    return LatentSet(torch.cat([parts[concept] for concept in keys]), tuple(names), tuple(templates))


def _from_anywhere(concepts: list[str]) -> list[str]:
    """The concepts from one on that differs from process to process: many that begin at once share the work."""
    start = zlib.crc32(f"{os.uname().nodename} {os.getpid()}".encode()) % max(1, len(concepts))
    return concepts[start:] + concepts[:start]


def _concept(
    store: Store,
    backbone: Backbone,
    protocol: Protocol,
    concept: str,
    key: Mapping[str, Any],
    wanted: Sequence[ImageSpec],
    batch: int,
) -> torch.Tensor:
    def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        latents = sample(backbone, wanted, protocol, protocol.forget_seed, batch, as_images=False)
        return {"latents": latents}, {"concept": concept}

    return store.stage("latents", key, compute).tensors()["latents"]
