"""The images methods may learn from: what the untouched backbone draws for the forget split's prompts.

Built once for each concept and shared by every method. The sampler's final latents are kept as they are: decoding
and encoding them again would only add the VAE's error to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch

from bench import digest, sampler
from bench.backbone import Backbone
from bench.config import Protocol
from bench.sampler import sample, shots
from bench.store import Entry, Store
from bench.worlds.base import World

CODE: tuple[ModuleType, ...] = (sampler,)


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


def stage_key(
    world: World, backbone: str, protocol: Protocol, concept: str, count: int, dtype: str
) -> dict[str, object]:
    """What determines the latents of one concept; `backbone` is its digest."""
    return {
        "backbone": backbone,
        "prompts": world.prompts("forget", concept),
        "count": count,
        "seed": protocol.forget_seed,
        "sampler": sampling_key(protocol),
        "dtype": dtype,
        "code": digest.of_source(*CODE),
    }


def sampling_key(protocol: Protocol) -> dict[str, object]:
    """The part of a protocol that decides how an image comes out of a model."""
    return {
        "scheduler": protocol.scheduler,
        "num_inference_steps": protocol.num_inference_steps,
        "guidance_scale": protocol.guidance_scale,
    }


def build(
    store: Store, world: World, backbone: Backbone, protocol: Protocol, concepts: Sequence[str], count: int, batch: int
) -> LatentSet:
    """`count` latents of each of `concepts`, from the store or drawn now with the backbone's untouched weights."""
    parts, names, templates = [], [], []
    for concept in concepts:
        entry = _concept(store, world, backbone, protocol, concept, count, batch)
        parts.append(entry.tensors()["latents"])
        names += [concept] * count
        templates += [i % len(world.prompts("forget", concept)) for i in range(count)]
    return LatentSet(torch.cat(parts), tuple(names), tuple(templates))


def _concept(
    store: Store, world: World, backbone: Backbone, protocol: Protocol, concept: str, count: int, batch: int
) -> Entry:
    key = stage_key(world, backbone.content, protocol, concept, count, backbone.arithmetic)
    wanted = shots(concept, world.prompts("forget", concept), count)

    def compute() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        latents = sample(backbone, wanted, protocol, protocol.forget_seed, batch, as_images=False)
        return {"latents": latents}, {"concept": concept}

    return store.stage("latents", key, compute)
