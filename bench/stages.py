"""The stages of a cell, each from the store if it is there: forget set -> delta -> images -> judgements."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch

from bench import (
    backbone,
    checkpoint,
    digest,
    forget_set,
    harness,
    networks,
    panel,
    paths,
    probe,
    sampler,
    training,
    unlearning,
)
from bench.checkpoint import Checkpoint
from bench.harness import Harness
from bench.plan import Cell, Plan
from bench.sampler import Shot, decode, sample, shots
from bench.store import Entry, Store
from bench.suites import Task
from bench.training import NonFiniteLoss
from bench.unlearning import unlearn
from methods import Method

TRAINING = (checkpoint, harness, networks, paths, training, unlearning)  # what decides the weights, besides the method

CHECKPOINT_SECONDS = 60.0  # of training that an interruption may cost, about

Report = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


class Stages:
    """What a run computes with, loaded when first needed: a run that finds all in the store loads no network.

    Args:
        plan: what to run.
        report: told about progress within a stage.
    """

    def __init__(self, plan: Plan, report: Report = lambda what, done, total: None) -> None:
        self.plan, self.report = plan, report
        self.store = Store(plan.run.out / ".store")
        self.device = backbone.default_device()
        self.dtype = backbone.arithmetic(self.device, plan.protocol.precision, plan.run.compile)
        self.content = digest.of_folder(plan.folder)
        self.panel = panel.Panel(plan.world, plan.concepts, self.device)
        self.shots: tuple[Shot, ...] = tuple(
            shot
            for concept in plan.concepts
            for shot in shots(concept, plan.world.prompts("evaluate", concept), plan.protocol.images_per_concept)
        )
        self._backbone: backbone.Backbone | None = None
        self._reference: dict[str, Entry] = {}
        self._code = {name: digest.of_source(*modules_of(method)) for name, method in plan.methods.items()}

    @property
    def backbone(self) -> backbone.Backbone:
        """The pipeline, loaded on first use."""
        if self._backbone is None:
            self.report("loading the backbone", 0, 1)
            self._backbone = backbone.load(
                self.plan.folder, self.device, self.plan.protocol.precision, self.plan.run.compile
            )
        return self._backbone

    def release(self) -> None:
        """Give back the memory of a stage that failed, of CUDA's too, so that the next one has it."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def delta(self, cell: Cell) -> Entry:
        """The tensors that the method changed."""
        try:
            entry = self.store.stage("deltas", self.delta_key(cell), lambda: self._unlearn(cell))
        except NonFiniteLoss:
            self.checkpoint(cell).remove()  # to go on from there would only end there again
            raise
        self.checkpoint(cell).remove()
        return entry

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """Where the cell's training leaves its state while it is not done."""
        place = self.store.place("checkpoints", self.delta_key(cell))
        return Checkpoint(place.with_suffix(".safetensors"), CHECKPOINT_SECONDS)

    def drop_delta(self, cell: Cell) -> None:
        """Forget the tensors that the method changed, and what there is of them half done."""
        self.store.drop("deltas", self.delta_key(cell))
        self.checkpoint(cell).remove()

    def images(self, weights: Entry | None, wanted: Sequence[Shot] | None = None) -> Entry:
        """Images of the shots `wanted` (all evaluation shots) under changed weights; None stands for untouched ones.

        Holds "images", uint8 (N, 3, H, W), and the "latents" they were decoded from, float32 (N, C, h, w).
        """
        wanted = self.shots if wanted is None else wanted

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                self.report("sampling", done, len(wanted))

            protocol, batch = self.plan.protocol, self.plan.run.sample_batch
            model, began = self.backbone, time.perf_counter()
            with model.weights(weights.tensors() if weights else {}):
                latents = sample(
                    model, wanted, protocol, protocol.evaluation_seed, batch, as_images=False, advance=advance
                )
            parts = [decode(model, part.to(self.device)) for part in latents.split(batch)]
            return {"images": torch.cat(parts), "latents": latents}, {"seconds": time.perf_counter() - began}

        return self.store.stage("images", self.images_key(weights, wanted), compute)

    def headnoun_shots(self, task: Task) -> tuple[Shot, ...]:
        """Shots of the head nouns of a task's forgotten concepts, as many as of a concept; few tasks have any."""
        nouns = {concept: self.plan.world.headnoun(concept) for concept in task.forget}
        count = self.plan.protocol.images_per_concept
        return tuple(shot for concept, noun in nouns.items() if noun for shot in shots(concept, noun[0], count))

    def judgements(self, images: Entry, wanted: Sequence[Shot] | None = None) -> Entry:
        """What the panel saw in the images of the shots `wanted` (all evaluation shots)."""
        prompts = [shot.prompt for shot in (self.shots if wanted is None else wanted)]
        key = {
            "images": images.content,
            "prompts": prompts,
            "panel": self.panel.digest,
            "code": digest.of_source(panel),
        }
        return self.store.stage(
            "judgements", key, lambda: (self.panel.look(images.tensors("images")["images"], prompts), {})
        )

    def probe(self, weights: Entry, task: Task) -> Entry:
        """The model's own predictions for its images of the task's forgotten concepts: "gaps" and "logsnr"."""
        protocol, batch = self.plan.protocol, self.plan.run.sample_batch
        images = self.images(weights)
        kept = [i for i, shot in enumerate(self.shots) if shot.concept in task.forget]
        wanted = tuple(self.shots[i] for i in kept)
        key = {
            "backbone": self.content,
            "weights": weights.content,
            "images": images.content,
            "shots": wanted,
            "seed": protocol.evaluation_seed,
            "timesteps": protocol.probe_timesteps,
            "code": digest.of_source(probe, sampler),
        }

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report("probing", 0, len(wanted))
            latents = images.tensors("latents")["latents"][kept]
            with self.backbone.weights(weights.tensors()):
                found = probe.gaps(
                    self.backbone, wanted, latents, protocol.evaluation_seed, protocol.probe_timesteps, batch
                )
            return found, {}

        return self.store.stage("probes", key, compute)

    def reference(self, concept: str) -> Entry:
        """Real pictures of a concept: their "features", float32 (R, D), and in how many ("right") the judge sees it."""
        if concept in self._reference:
            return self._reference[concept]
        world, count = self.plan.world, self.plan.protocol.reference_per_concept
        first = world.reference(concept, 1)  # tells a changed renderer or data set from the old one
        key = {
            "first": digest.of_tensors({"picture": first}),
            "concept": concept,
            "asked": world.prompts("evaluate", concept),  # in which styles, that is
            "count": count,
            "panel": self.panel.digest,
            "code": digest.of_source(panel),
        }

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report(f"real pictures of {concept}", 0, count)
            pictures = world.reference(concept, count)
            facts = {"right": self.panel.right(concept, pictures), "count": count}
            return {"features": self.panel.features(pictures)}, facts

        self._reference[concept] = self.store.stage("reference", key, compute)
        return self._reference[concept]

    def delta_key(self, cell: Cell) -> dict[str, Any]:
        """What determines a method's weights."""
        world, protocol, task = self.plan.world, self.plan.protocol, cell.task
        sets = dict.fromkeys(task.forget, protocol.forget_images)
        sets |= dict.fromkeys(task.in_domain + task.out_of_domain, protocol.retain_images)
        return {
            "backbone": self.content,
            "method": cell.method,
            "config": cell.config,
            "task": task,
            "rest": {concept: world.rest(concept) for concept in task.forget},
            "seed": cell.seed,
            "sets": {
                c: digest.of_json(forget_set.stage_key(world, self.content, protocol, c, n, self.dtype))
                for c, n in sets.items()
            },
            "dtype": self.dtype,
            "code": [self._code[cell.method], digest.of_source(*TRAINING)],
        }

    def images_key(self, weights: Entry | None, wanted: Sequence[Shot] | None = None) -> dict[str, Any]:
        """What determines images: the weights, not who made them."""
        return {
            "backbone": self.content,
            "weights": weights.content if weights else "",
            "shots": self.shots if wanted is None else wanted,
            "kept": ["images", "latents"],
            "seed": self.plan.protocol.evaluation_seed,
            "sampler": forget_set.sampling_key(self.plan.protocol),
            "dtype": self.dtype,
            "code": digest.of_source(sampler),
        }

    def _unlearn(self, cell: Cell) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        world, protocol, batch = self.plan.world, self.plan.protocol, self.plan.run.sample_batch
        self.report("forget set", 0, 1)

        def build(concepts: tuple[str, ...], count: int) -> forget_set.LatentSet:
            return forget_set.build(self.store, world, self.backbone, protocol, concepts, count, batch)

        workplace = Harness(
            self.backbone,
            cell.task,
            forget=build(cell.task.forget, protocol.forget_images),
            retain=lambda: build(cell.task.in_domain + cell.task.out_of_domain, protocol.retain_images),
            prompts={concept: world.prompts("forget", concept) for concept in cell.task.concepts},
            seed=cell.seed,
            on_step=lambda step, steps, loss: self.report(f"unlearning, loss {loss:.4f}", step, steps),
            rest={concept: world.rest(concept) for concept in cell.task.forget},
            checkpoint=self.checkpoint(cell),
        )
        outcome = unlearn(workplace, self.plan.methods[cell.method](cell.config))
        facts = {
            "cost": outcome.cost,
            "data": outcome.ledger.facts(),
            "compensation": outcome.ledger.compensation,
        }
        return outcome.delta, facts


def modules_of(method: type[Method]) -> list[ModuleType]:
    """The method's module and those of its own package and of `methods` that it takes names from, or they do.

    What its weights depend on, that is, besides the machine.
    """
    packages = {method.__module__.partition(".")[0], "methods"}
    found, new = set[str](), {method.__module__}
    while new:
        found |= new
        values = [value for name in new for value in vars(sys.modules[name]).values()]
        sources = {v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) or "" for v in values}
        new = {name for name in sources if name.partition(".")[0] in packages} - found
    return [sys.modules[name] for name in sorted(found)]
