"""The stages of a cell, each from the store if it is there: forget set -> delta -> images -> judgements."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch

from bench import backbone, digest, forget_set, harness, paths, sampler
from bench.harness import Harness
from bench.panel import Panel
from bench.plan import Cell, Plan
from bench.sampler import Shot, sample, shots
from bench.store import Entry, Store
from methods import Method

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
        self.dtype = str(backbone.compute_dtype(self.device, plan.protocol.precision))
        self.content = digest.of_folder(plan.folder)
        self.panel = Panel(plan.world, plan.concepts, self.device)
        self.shots: tuple[Shot, ...] = tuple(
            shot
            for concept in plan.concepts
            for shot in shots(concept, plan.world.prompts("evaluate", concept), plan.protocol.images_per_concept)
        )
        self._backbone: backbone.Backbone | None = None
        self._reference: dict[str, torch.Tensor] = {}
        self._code = {name: digest.of_source(*modules_of(method)) for name, method in plan.methods.items()}

    @property
    def backbone(self) -> backbone.Backbone:
        """The pipeline, loaded on first use."""
        if self._backbone is None:
            self.report("loading the backbone", 0, 1)
            self._backbone = backbone.load(self.plan.folder, self.device, self.plan.protocol.precision)
        return self._backbone

    def delta(self, cell: Cell) -> Entry:
        """The tensors that the method changed."""
        return self.store.stage("deltas", self.delta_key(cell), lambda: self._unlearn(cell))

    def images(self, weights: Entry) -> Entry:
        """Every evaluation image under the changed weights: uint8 "images", (N, 3, H, W) in the order of `shots`."""

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                self.report("sampling", done, len(self.shots))

            protocol, run = self.plan.protocol, self.plan.run
            with self.backbone.weights(weights.tensors()):
                taken = sample(
                    self.backbone, self.shots, protocol, protocol.evaluation_seed, run.sample_batch, advance=advance
                )
            return {"images": taken}, {}

        return self.store.stage("images", self.images_key(weights), compute)

    def judgements(self, images: Entry) -> Entry:
        """What the panel saw in the images."""
        key = {"images": images.content, "panel": self.panel.digest}
        return self.store.stage("judgements", key, lambda: (self.panel.look(images.tensors()["images"]), {}))

    def reference(self, concept: str) -> torch.Tensor:
        """Features of real pictures of a concept, float32 (R, D)."""
        if concept in self._reference:
            return self._reference[concept]
        world, count = self.plan.world, self.plan.protocol.reference_per_concept
        first = world.reference(concept, 1)  # tells a changed renderer or data set from the old one
        key = {"first": digest.of_tensors({"picture": first}), "count": count, "panel": self.panel.digest}

        def compute() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            self.report(f"real pictures of {concept}", 0, count)
            return {"features": self.panel.features(world.reference(concept, count))}, {}

        self._reference[concept] = self.store.stage("reference", key, compute).tensors()["features"]
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
            "code": [self._code[cell.method], digest.of_source(harness, paths)],
        }

    def images_key(self, weights: Entry) -> dict[str, Any]:
        """What determines the evaluation images: the weights, not who made them."""
        return {
            "backbone": self.content,
            "weights": weights.content,
            "shots": self.shots,
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
        )
        outcome = workplace.run(self.plan.methods[cell.method](cell.config))
        facts = {
            "cost": outcome.cost,
            "data": outcome.ledger.facts(),
            "compensation": outcome.ledger.compensation,
        }
        return outcome.delta, facts


def modules_of(method: type[Method]) -> list[ModuleType]:
    """The method's module and those of its own package that it takes names from, directly or through one of these.

    What its weights depend on, that is, besides the machine.
    """
    package = method.__module__.partition(".")[0]
    found, new = set[str](), {method.__module__}
    while new:
        found |= new
        values = [value for name in new for value in vars(sys.modules[name]).values()]
        sources = {getattr(value, "__module__", None) or "" for value in values}
        new = {name for name in sources if name.partition(".")[0] == package} - found
    return [sys.modules[name] for name in sorted(found)]
