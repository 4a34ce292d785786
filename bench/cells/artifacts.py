"""The stages of a cell, each from the store if it is there: forget set -> delta -> images -> judgements."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from bench.backbones import folder, pipeline
from bench.backbones.sampler import ImageSpec, decode, image_specs, sample
from bench.cells import judges, probe
from bench.cells.keys import Keys
from bench.cells.weights import Weights
from bench.core.device import default_device, describe
from bench.core.store import Entry, Store
from bench.core.task import Task
from bench.plan.plan import Plan

KEPT_SIDE = 128  # pixels a side: pictures up to this are kept; of larger ones the latents, a fiftieth of the bytes
PREVIEWS, PREVIEW_SIDE = 3, 256  # for people to look at, of larger ones: so many of each concept, so many pixels a side

STORE = ".store"  # within a run's --out
Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


def _describe(plan: Plan, device: torch.device) -> dict[str, Any]:
    run = plan.run
    return describe(device, plan.protocol.precision, run.compile, run.gradient_checkpointing)


class Stages:
    """What a run computes with, loaded when first needed: a run that finds all in the store loads no network.

    Args:
        plan: what to run.
        report: told about progress within a stage.
        machine: that computed what the store has, as `bench.core.device.describe` says it; None for this one.
    """

    def __init__(
        self,
        plan: Plan,
        report: Report = lambda what, done, total: None,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        self.plan, self.report = plan, report
        self.store = Store(plan.run.out / STORE)
        self.device = default_device()
        self.machine = dict(machine) if machine else _describe(plan, self.device)
        self.content = folder.content(plan.folder)
        self.keys = Keys(plan, self.content, self.machine, lambda: self.panel.digest)
        self.specs, self.asked = self.keys.specs, self.keys.asked
        self.weights = Weights(plan, self.keys, self.store, lambda: self.backbone, report, self._make_room)
        self._backbone: pipeline.Backbone | None = None
        self._reference: dict[str, Entry] = {}

    @cached_property
    def panel(self) -> judges.Panel:
        """The judges, loaded on first use. Raises WorldUnavailable where one can't be had."""
        return judges.Panel(self.plan.world, self.plan.concepts, self.device)

    def _make_room(self) -> None:
        if "panel" in self.__dict__:  # they have been loaded
            self.panel.offload()

    @property
    def backbone(self) -> pipeline.Backbone:
        """The pipeline, loaded on first use."""
        if self._backbone is None:
            self.report("loading the backbone", 0, 1)
            run = self.plan.run
            self._backbone = pipeline.load(
                self.plan.folder,
                self.device,
                self.plan.protocol.precision,
                run.compile,
                run.gradient_checkpointing,
            )
        return self._backbone

    def release(self) -> None:
        """Give back the memory of a stage that failed, of CUDA's too, so that the next one has it."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def images(self, weights: Entry | None, wanted: Sequence[ImageSpec] | None = None) -> Entry:
        """Images of the specs `wanted` (all evaluation specs) under changed weights; None stands for untouched ones.

        Holds the final "latents", float32 (N, C, h, w), and "images", uint8 (K, 3, H, W): all of them, decoded, where
        pictures are small; else the first few of each concept, shrunk to `PREVIEW_SIDE`: those at the indices "shown",
        int64 (K,).
        """
        wanted = self.specs if wanted is None else wanted

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                self.report("sampling", done, len(wanted))

            protocol, batch = self.plan.protocol, self.plan.sample_batch
            model, began = self.backbone, time.perf_counter()
            with model.weights(weights.tensors() if weights else {}):
                latents = sample(
                    model, wanted, protocol, protocol.evaluation_seed, batch, as_images=False, advance=advance
                )
            side = max(model.latent_shape[1:]) * model.pipeline.vae_scale_factor
            shown = range(len(wanted)) if side <= KEPT_SIDE else self._first() if wanted is self.specs else ()
            kept = latents[[*shown]].split(batch) if len(shown) else ()  # split makes a part of nothing, too
            parts = [self._shrunk(decode(model, part.to(self.device))) for part in kept]
            images = torch.cat(parts) if parts else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
            found = {"images": images, "shown": torch.tensor([*shown], dtype=torch.int64), "latents": latents}
            return found, {"seconds": time.perf_counter() - began, "count": len(wanted)}

        return self.store.stage("images", self.keys.images(weights, wanted), compute)

    def pictures(self, images: Entry) -> Iterator[torch.Tensor]:
        """The images themselves, uint8 (n, 3, H, W), some at a time: as kept, or decoded from their latents."""
        held = images.tensors()
        if len(held["images"]) == len(held["latents"]):
            yield held["images"]
            return
        done, total = 0, len(held["latents"])
        for part in held["latents"].split(self.plan.sample_batch):
            yield decode(self.backbone, part.to(self.device))
            done += len(part)
            self.report("judging", done, total)

    def _first(self) -> list[int]:
        """Places of the first few evaluation specs of each concept."""
        each = {c: [i for one, i in self.asked if one == c][:PREVIEWS] for c in self.plan.concepts}
        return sorted({i for places in each.values() for i in places})

    @staticmethod
    def _shrunk(images: torch.Tensor) -> torch.Tensor:
        """Uint8 images (B, 3, H, W), at most `PREVIEW_SIDE` pixels a side if they are not small."""
        if max(images.shape[-2:]) <= KEPT_SIDE:
            return images
        scale = min(1.0, PREVIEW_SIDE / max(images.shape[-2:]))
        return torch.nn.functional.interpolate(images.float(), scale_factor=scale, mode="area").round().to(torch.uint8)

    def headnoun_specs(self, task: Task) -> tuple[tuple[str, ...], tuple[ImageSpec, ...]]:
        """Shots of the head nouns of a task's forgotten concepts, as many as each has images, and whose each one is.

        Few tasks have any.
        """
        nouns = {concept: self.plan.world.headnoun(concept) for concept in task.forget}
        each = {c: image_specs(noun[0], self.plan.images(c)) for c, noun in nouns.items() if noun}
        asked = tuple(concept for concept, taken in each.items() for _ in taken)
        return asked, tuple(spec for taken in each.values() for spec in taken)

    def judgements(self, images: Entry, wanted: Sequence[ImageSpec] | None = None) -> Entry:
        """What the panel saw in the images of the specs `wanted` (all evaluation specs)."""
        prompts = [spec.prompt for spec in (self.specs if wanted is None else wanted)]
        key = self.keys.judgements(images, prompts)
        return self.store.stage("judgements", key, lambda: (self.panel.judge(self.pictures(images), prompts), {}))

    def probe(self, weights: Entry, task: Task) -> Entry:
        """The model's own predictions for its images of the task's forgotten concepts: "gaps" and "logsnr"."""
        protocol, batch = self.plan.protocol, self.plan.sample_batch
        images, kept, wanted = self._probed(weights, task)
        key = self.keys.probe(weights, images, wanted)

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report("probing", 0, len(wanted))
            latents = images.tensors("latents")["latents"][kept]
            with self.backbone.weights(weights.tensors()):
                found = probe.gaps(
                    self.backbone, wanted, latents, protocol.evaluation_seed, protocol.probe_timesteps, batch
                )
            return found, {}

        return self.store.stage("probes", key, compute)

    def words(self, weights: Entry, task: Task) -> Entry:
        """The same with other prompts besides, as `bench.cells.probe.words` has it, and what `probe` gives."""
        protocol, batch = self.plan.protocol, self.plan.sample_batch
        images, kept, wanted = self._probed(weights, task)
        asked = [concept for concept, _ in self.asked if concept in task.forget]
        others = probe.contexts(self.plan.world, task, asked, wanted)
        key = self.keys.words(weights, images, wanted, others)

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report("probing", 0, len(wanted))
            latents = images.tensors("latents")["latents"][kept]
            with self.backbone.weights(weights.tensors()):
                found = probe.words(
                    self.backbone, wanted, latents, others, protocol.evaluation_seed, protocol.probe_timesteps, batch
                )
            shared = {"gaps": found[probe.NULL], "logsnr": found["logsnr"]}
            self.store.stage("probes", self.keys.probe(weights, images, wanted), lambda: (shared, {}))
            return found, {}

        return self.store.stage("words", key, compute)

    def _probed(self, weights: Entry, task: Task) -> tuple[Entry, list[int], tuple[ImageSpec, ...]]:
        """All images under the weights, and the places and specs of those of the task's forgotten concepts."""
        kept = [i for concept, i in self.asked if concept in task.forget]
        return self.images(weights), kept, tuple(self.specs[i] for i in kept)

    def reference(self, concept: str) -> Entry:
        """Real pictures of a concept: their "features", float32 (R, D), and in how many ("right") the judge sees it."""
        if concept in self._reference:
            return self._reference[concept]
        world, count = self.plan.world, self.plan.references(concept)

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report(f"real pictures of {concept}", 0, count)
            pictures = world.reference(concept, count)
            facts = {"right": self.panel.right(concept, pictures), "count": count}
            return {"features": self.panel.features(pictures)}, facts

        self._reference[concept] = self.store.stage("reference", self.keys.reference(concept), compute)
        return self._reference[concept]
