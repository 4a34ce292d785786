"""Images that a model draws: those that methods learn from, and those that are evaluated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from bench.backbones import folder, vae
from bench.backbones.sampler import ImageSpec, decode, image_specs, sample
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput
from bench.core import digest
from bench.core.store import Entry
from bench.core.task import Task
from bench.training import forget_set, neutral_pictures
from bench.training.forget_set import LatentSet

if TYPE_CHECKING:
    from bench.cells.artifacts import Context
    from bench.plan.plan import Plan

KEPT_SIDE = 128  # pixels a side: images up to this are kept; of larger ones the latents, a fiftieth of the bytes
PREVIEWS, PREVIEW_SIDE = 3, 256  # for people to look at, of larger ones: so many of each concept, so many pixels a side


def sampling(context: Context) -> Key:
    """How images are drawn: the part of a key that all drawn images share."""
    protocol = context.plan.protocol
    names = ("scheduler", "num_inference_steps", "guidance_scale")
    settings = {name: getattr(protocol, name) for name in names}
    # release 0.1 took scales below 1 for 1: what it drew with them must not be found
    below = {"guidance": "formula"} if protocol.guidance_scale < 1 else {}
    return {"backbone": context.content, "sampler": settings, **below}


class ConceptLatents(Artifact[[str, int]]):
    """`count` images of a concept that the untouched model draws from its forget prompts, for methods to learn from.

    Holds "latents", float32 (count, C, h, w). The sampler's final latents are kept as they are: decoding and encoding
    them again would only add the VAE's error.
    """

    name = kind = "latents"
    libraries = NETWORKS

    def key(self, concept: str, count: int) -> Key:
        asked = {"prompts": self.plan.world.prompts("forget", concept), "count": count}
        return {**sampling(self.context), **asked, "seed": self.plan.protocol.forget_seed, **self.stamp()}

    def compute(self, concept: str, count: int) -> StageOutput:
        specs = image_specs(self.plan.world.prompts("forget", concept), count)
        protocol, batch = self.plan.protocol, self.plan.sample_batch
        latents = sample(self.context.backbone, specs, protocol, protocol.forget_seed, batch, as_images=False)
        return {"latents": latents}, {"concept": concept}

    def key_digest(self, concept: str, count: int) -> str:
        """Digest of the key, for keys of what is learnt from these images."""
        made = self.context.once("latents", (concept, count), lambda: digest.of_json(self.key(concept, count)))
        return str(made)

    def of_concepts(self, concepts: Sequence[str], count: int) -> LatentSet:
        """`count` images of each concept."""
        parts = {c: self(c, count).tensors()["latents"] for c in forget_set.in_own_order(concepts)}
        prompts = {concept: self.plan.world.prompts("forget", concept) for concept in concepts}
        return forget_set.joined({concept: parts[concept] for concept in concepts}, prompts)


class NeutralLatents(Artifact[[int]]):
    """Pictures that show no concept of any world, `side` pixels a side: "latents", float32 (N, C, h, w)."""

    name, kind = "unrelated", "latents"
    libraries = ("torch", "diffusers", "numpy", "pillow")

    def key(self, side: int) -> Key:
        drawn = {"unrelated": side, "count": self.plan.protocol.finetune_pictures}
        return {"backbone": self.context.content, **drawn, **self.stamp()}

    def compute(self, side: int) -> StageOutput:
        drawn, _ = neutral_pictures.drawn(self.plan.protocol.finetune_pictures, side)
        return {"latents": vae.encode(self.context.backbone, drawn, self.plan.sample_batch)}, {}

    @property
    def side(self) -> int:
        """Pixels a side of what the backbone draws."""
        return max(folder.picture_size(self.plan.folder))

    def captioned(self) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
        """These pictures at the backbone's size, and the captions of each."""
        _, captions = neutral_pictures.drawn(self.plan.protocol.finetune_pictures, self.side)
        latents = self(self.side).tensors()["latents"]
        return LatentSet(latents, captions, (0,) * len(captions)), {caption: (caption,) for caption in captions}


class Images(Artifact[...]):
    """Images of some specs, or all evaluation images, under changed weights; weights of None are the untouched ones.

    Holds the final "latents", float32 (N, C, h, w), and "images", uint8 (K, 3, H, W): all of them, decoded, where
    images are small; else the first few of each concept, shrunk to `PREVIEW_SIDE`: those at the indices "shown",
    int64 (K,).
    """

    name = kind = "images"
    libraries = NETWORKS

    def key(self, weights: Entry | None, specs: Sequence[ImageSpec] | None = None) -> Key:
        return {
            **sampling(self.context),
            "weights": weights.content if weights else "",
            "shots": self.context.digest_of(specs),
            "kept": ["images", "shown", "latents"],
            "seed": self.plan.protocol.evaluation_seed,
            **self.stamp(),
        }

    def compute(self, weights: Entry | None, specs: Sequence[ImageSpec] | None = None) -> StageOutput:
        specs, done = self.context.specs if specs is None else specs, 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.context.report("sampling", done, len(specs))

        protocol, batch = self.plan.protocol, self.plan.sample_batch
        model, began = self.context.backbone, time.perf_counter()
        with model.weights(weights.tensors() if weights else {}):
            latents = sample(model, specs, protocol, protocol.evaluation_seed, batch, as_images=False, advance=advance)
        side = max(model.latent_shape[1:]) * model.pipeline.vae_scale_factor
        shown = range(len(specs)) if side <= KEPT_SIDE else self._previews(specs)
        kept = latents[[*shown]].split(batch) if len(shown) else ()  # split makes a part of nothing, too
        parts = [_shrunk(decode(model, part.to(self.context.device))) for part in kept]
        images = torch.cat(parts) if parts else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        tensors = {"images": images, "shown": torch.tensor([*shown], dtype=torch.int64), "latents": latents}
        return tensors, {"seconds": time.perf_counter() - began, "count": len(specs)}

    def decoded(self, images: Entry) -> Iterator[torch.Tensor]:
        """The images themselves, uint8 (n, 3, H, W), some at a time: as kept, or decoded from their latents."""
        held = images.tensors()
        if len(held["images"]) == len(held["latents"]):
            yield held["images"]
            return
        done, total = 0, len(held["latents"])
        for part in held["latents"].split(self.plan.sample_batch):
            yield decode(self.context.backbone, part.to(self.context.device))
            done += len(part)
            self.context.report("judging", done, total)

    def _previews(self, specs: Sequence[ImageSpec]) -> Sequence[int]:
        """Indices of the first few evaluation images of each concept; of other images none."""
        if specs is not self.context.specs:
            return ()
        each = {c: [i for one, i in self.context.requested if one == c][:PREVIEWS] for c in self.plan.concepts}
        return sorted({i for indices in each.values() for i in indices})


def _shrunk(images: torch.Tensor) -> torch.Tensor:
    """Uint8 images (B, 3, H, W), at most `PREVIEW_SIDE` pixels a side if they are not small."""
    if max(images.shape[-2:]) <= KEPT_SIDE:
        return images
    scale = min(1.0, PREVIEW_SIDE / max(images.shape[-2:]))
    return torch.nn.functional.interpolate(images.float(), scale_factor=scale, mode="area").round().to(torch.uint8)


def evaluation_specs(plan: Plan, concept: str) -> tuple[ImageSpec, ...]:
    """The evaluation images of a concept."""
    return image_specs(plan.world.prompts("evaluate", concept), plan.images(concept), plan.protocol.noise_seeds)


def headnoun_specs(plan: Plan, task: Task) -> tuple[tuple[str, ...], tuple[ImageSpec, ...]]:
    """The forgotten concept of each head noun image of a task, and the specs of these images. Few tasks have any."""
    nouns = {concept: plan.world.headnoun(concept) for concept in task.forget}
    each = {c: image_specs(noun[0], plan.images(c)) for c, noun in nouns.items() if noun}
    concepts = tuple(concept for concept, specs in each.items() for _ in specs)
    return concepts, tuple(spec for specs in each.values() for spec in specs)
