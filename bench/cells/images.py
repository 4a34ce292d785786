"""Artifacts of sampled images: images that methods learn from, and evaluation images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from bench.backbones import folder, vae
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, decode, image_specs, sample
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput
from bench.core import digest, guidance
from bench.core.store import Entry
from bench.core.task import Task
from bench.training import attachment, forget_set
from bench.training.forget_set import LatentSet
from bench.training.neutral import pictures

if TYPE_CHECKING:
    from bench.cells.artifacts import Context
    from bench.plan.plan import Plan

FLAT = 8  # grey levels; an image whose channels each span at most this many, black for example, shows nothing
KEPT_SIDE = 128  # images of at most this many pixels a side are stored; for larger ones only latents, 1/50 of the bytes
PREVIEWS, PREVIEW_SIDE = 3, 256  # for larger images: stored previews of each concept, and their maximum side in pixels


def sampling(context: Context) -> Key:
    """The sampling settings: the part of the key that all sampled images share."""
    protocol = context.plan.protocol
    names = ("scheduler", "num_inference_steps", "guidance_scale")
    settings = {name: getattr(protocol, name) for name in names}
    # release 0.1 sampled scales below 1 like 1, so its images for these scales must have another key
    below = {"guidance": "formula"} if protocol.guidance_scale < 1 else {}
    prescribed = {name: part for name, part in context.solvers.items() if name == "solver"}
    return {"backbone": context.content, "sampler": settings, **below, **prescribed}


class ConceptLatents(Artifact[[str, int]]):
    """`count` images of a concept, sampled by the original model from its forget prompts, for methods to learn from.

    The entry has the tensor "latents", float32 (count, C, h, w): the final latents of the sampler. They are not
    decoded and encoded again, because that would add the error of the VAE.
    """

    name = kind = "latents"
    libraries = NETWORKS

    def key(self, concept: str, count: int) -> Key:
        requested = {"prompts": self.plan.world.prompts("forget", concept), "count": count}
        return {**sampling(self.context), **requested, "seed": self.plan.protocol.forget_seed, **self.stamp()}

    def compute(self, concept: str, count: int) -> StageOutput:
        specs = image_specs(self.plan.world.prompts("forget", concept), count)
        protocol, batch = self.plan.protocol, self.plan.sample_batch
        latents = sample(self.context.backbone, specs, protocol, protocol.forget_seed, batch, as_images=False)
        return {"latents": latents}, {"concept": concept}

    def key_digest(self, concept: str, count: int) -> str:
        """Digest of the key, for keys of weights that are trained on these images."""
        key_digest = self.context.once("latents", (concept, count), lambda: digest.of_json(self.key(concept, count)))
        return str(key_digest)

    def of_concepts(self, concepts: Sequence[str], count: int) -> LatentSet:
        """A set of `count` images of each concept, with the forget prompts of the concepts."""
        parts = {c: self(c, count).tensors()["latents"] for c in forget_set.in_own_order(concepts)}
        prompts = {concept: self.plan.world.prompts("forget", concept) for concept in concepts}
        return forget_set.joined({concept: parts[concept] for concept in concepts}, prompts)


class NeutralLatents(Artifact[[int]]):
    """Pictures of `side` x `side` pixels that show no concept of any world: "latents", float32 (N, C, h, w)."""

    name, kind = "unrelated", "latents"
    libraries = ("torch", "diffusers", "numpy", "pillow")

    def key(self, side: int) -> Key:
        drawn = {"unrelated": side, "count": self.plan.protocol.finetune_pictures}
        return {"backbone": self.context.content, **drawn, **self.stamp()}

    def compute(self, side: int) -> StageOutput:
        drawn, _ = pictures.drawn(self.plan.protocol.finetune_pictures, side)
        return {"latents": vae.encode(self.context.backbone, drawn, self.plan.sample_batch)}, {}

    @property
    def side(self) -> int:
        """The longer side of the backbone's images in pixels."""
        return max(folder.picture_size(self.plan.folder))

    def captioned(self) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
        """These pictures at the size of the backbone's images, and name -> captions of the picture."""
        _, captions = pictures.drawn(self.plan.protocol.finetune_pictures, self.side)
        latents = self(self.side).tensors()["latents"]
        return LatentSet(latents, captions, (0,) * len(captions)), {caption: (caption,) for caption in captions}


class Images(Artifact[...]):
    """Images of the specs, or all evaluation images if `specs` is None, sampled with some weights.

    Weights of None are the original weights. The entry has these tensors:

    - "latents", float32 (N, C, h, w): the final latents of all images.
    - "images", uint8 (K, 3, H, W): all decoded images if they have at most `KEPT_SIDE` pixels a side. Otherwise the
      first `PREVIEWS` evaluation images of each concept, resized to at most `PREVIEW_SIDE` pixels a side.
    - "shown", int64 (K,): the indices of "images" among all images.

    Its facts are "seconds" and "count", the time and the number of images, and "passes", the forward passes for one
    image in each sampling step, if a method changes this number while it acts.
    """

    name = kind = "images"
    libraries = NETWORKS

    def key(self, weights: Entry | None, specs: Sequence[ImageSpec] | None = None) -> Key:
        return {
            **sampling(self.context),
            "weights": attachment.identity(weights),
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
        began = time.perf_counter()
        with self.context.model(weights) as model:
            latents = sample(model, specs, protocol, protocol.evaluation_seed, batch, as_images=False, advance=advance)
        side = max(model.latent_shape[1:]) * model.pipeline.vae_scale_factor
        shown = range(len(specs)) if side <= KEPT_SIDE else self._previews(specs)
        device, parts = self.context.device, []
        for rows in (shown[i : i + batch] for i in range(0, len(shown), batch)):
            images = decode(model, latents[[*rows]].to(device), [specs[i].prompt for i in rows])
            parts.append(_shrunk(images))
        images = torch.cat(parts) if parts else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        tensors = {"images": images, "shown": torch.tensor([*shown], dtype=torch.int64), "latents": latents}
        passes, usual = self.context.passes(weights), guidance.passes(protocol.guidance_scale)
        more = {"passes": passes} if passes != usual else {}
        return tensors, {"seconds": time.perf_counter() - began, "count": len(specs), **more}

    def decoded(self, images: Entry, prompts: Sequence[str]) -> Iterator[torch.Tensor]:
        """All images in batches, uint8 (n, 3, H, W): the stored images, or the latents decoded now.

        A backbone that is needed is loaded at once and not with the first batch. Whoever takes the batches may have
        switched to inference mode, in which no tensor is made that can train, and TF32 off, which loading switches on.

        `prompts` has the prompt of each image. The batches raise NonFiniteImage.
        """
        held = images.tensors()
        if len(held["images"]) == len(held["latents"]):
            return iter([held["images"]])
        return self._decoded(self.context.backbone, held["latents"], prompts)

    def _decoded(self, backbone: Backbone, latents: torch.Tensor, prompts: Sequence[str]) -> Iterator[torch.Tensor]:
        done, total = 0, len(latents)
        for part in latents.split(self.plan.sample_batch):
            yield decode(backbone, part.to(self.context.device), prompts[done : done + len(part)])
            done += len(part)
            self.context.report("judging", done, total)

    def _previews(self, specs: Sequence[ImageSpec]) -> Sequence[int]:
        """Indices of the first `PREVIEWS` evaluation images of each concept; empty for other specs."""
        if specs is not self.context.specs:
            return ()
        each = {c: [i for one, i in self.context.requested if one == c][:PREVIEWS] for c in self.plan.concepts}
        return sorted({i for indices in each.values() for i in indices})


def shows_nothing(images: torch.Tensor) -> torch.Tensor:
    """For each uint8 image (B, 3, H, W), whether no channel spans more than `FLAT` of the 256 grey levels: bool (B,).

    >>> black, noise = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    >>> shows_nothing(torch.cat([black, noise])).tolist()
    [True, False]
    """
    channels = images.flatten(2)
    return (channels.amax(2) - channels.amin(2) <= FLAT).all(1)


def _shrunk(images: torch.Tensor) -> torch.Tensor:
    """Uint8 images (B, 3, H, W), resized to at most `PREVIEW_SIDE` pixels a side if one has more than `KEPT_SIDE`."""
    if max(images.shape[-2:]) <= KEPT_SIDE:
        return images
    scale = min(1.0, PREVIEW_SIDE / max(images.shape[-2:]))
    return torch.nn.functional.interpolate(images.float(), scale_factor=scale, mode="area").round().to(torch.uint8)


def evaluation_specs(plan: Plan, concept: str) -> tuple[ImageSpec, ...]:
    """The specs of a concept's evaluation images."""
    return image_specs(plan.world.prompts("evaluate", concept), plan.images(concept), plan.protocol.noise_seeds)


def reference_specs(plan: Plan, concept: str) -> tuple[ImageSpec, ...]:
    """The specs of images of the untouched model that stand for reference images of a concept.

    They have the evaluation prompts, and noise of their own: their indices follow those of the evaluation images.
    """
    prompts = plan.world.prompts("evaluate", concept)
    taken = math.ceil(plan.images(concept) / len(prompts))
    return tuple(ImageSpec(one.prompt, taken + one.index) for one in image_specs(prompts, plan.references(concept)))


def caption_specs(plan: Plan, again: bool = False) -> tuple[ImageSpec, ...]:
    """The spec of the image of each caption of the world. `again`: of another image of each, on other noise."""
    return tuple(ImageSpec(caption, int(again)) for caption in plan.world.captions)


def headnoun_specs(plan: Plan, task: Task) -> tuple[tuple[str, ...], tuple[ImageSpec, ...]]:
    """The forgotten concept and the spec of each image of a head noun, as two tuples. Most tasks have no such image."""
    nouns = {concept: plan.world.headnoun(concept) for concept in task.forget}
    each = {c: image_specs(noun[0], plan.images(c)) for c, noun in nouns.items() if noun}
    concepts = tuple(concept for concept, specs in each.items() for _ in specs)
    return concepts, tuple(spec for specs in each.values() for spec in specs)
