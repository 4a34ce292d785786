"""The weights of a cell: what a method makes of the ones before, or further training does, or an oracle has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bench import encoder, forget_set, oracle, unrelated
from bench.backbone import TEXT, Backbone
from bench.checkpoint import Checkpoint
from bench.finetuning import further
from bench.forget_set import LatentSet
from bench.harness import Harness
from bench.keys import Keys
from bench.plan import Cell, Plan
from bench.snapshots import Snapshots
from bench.store import Entry, Store
from bench.task import Task
from bench.training import NonFiniteLoss
from bench.unlearning import unlearn
from methods import ORACLE

CHECKPOINT_SECONDS = 60.0  # of training that an interruption may cost, about
COSTS = ("seconds", "steps", "student_forwards", "teacher_forwards", "peak_bytes")

Made = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]  # a stage's tensors and facts


class Weights:
    """The weights of a plan's cells, from the store or made now.

    Args:
        backbone: () -> the networks, loaded on the first call.
        report: told what is being done, how much of it is done, of how much.
        clear: called before a training, to make room.
    """

    def __init__(
        self,
        plan: Plan,
        keys: Keys,
        store: Store,
        backbone: Callable[[], Backbone],
        report: Callable[[str, int, int], None],
        clear: Callable[[], None],
    ) -> None:
        self.plan, self.keys, self.store = plan, keys, store
        self._backbone, self._report, self._clear = backbone, report, clear

    def of(self, cell: Cell) -> Entry:
        """The tensors that differ from the backbone's."""
        try:
            entry = self.store.stage("deltas", self.keys.delta(cell), lambda: self._make(cell))
        except NonFiniteLoss:
            self.checkpoint(cell).remove()  # to go on from there would only end there again
            raise
        self.checkpoint(cell).remove()
        return entry

    def snapshots(self, cell: Cell) -> list[Entry]:
        """The tensors that differ from the backbone's, after each part of the cell's training but the last.

        An entry whose fact "taken" is false stands for weights that there never were: nothing was trained.
        """
        parts = self.plan.curve
        keys = [self.keys.snapshot(cell, part, parts) for part in range(1, parts)]
        if not all(self.store.get("snapshots", key) for key in keys):
            self._make(cell)  # once more, where it was done without keeping any
        return [self.store.stage("snapshots", key, lambda: ({}, {"taken": False})) for key in keys]

    def before(self, cell: Cell) -> Entry | None:
        """The weights that the cell starts from; None for the untouched ones."""
        after = cell.task.after
        return None if after is None else self.of(dataclasses.replace(cell, task=after))

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """Where the cell's training leaves its state while it is not done."""
        place = self.store.place("checkpoints", self.keys.delta(cell))
        return Checkpoint(place.with_suffix(".safetensors"), CHECKPOINT_SECONDS)

    def drop(self, cell: Cell) -> None:
        """Forget the cell's weights, those that they start from, and what there is of them half done."""
        if cell.task.after:
            self.drop(dataclasses.replace(cell, task=cell.task.after))
        self.store.drop("deltas", self.keys.delta(cell))
        for part in range(1, self.plan.curve):
            self.store.drop("snapshots", self.keys.snapshot(cell, part, self.plan.curve))
        self.checkpoint(cell).remove()

    def _make(self, cell: Cell) -> Made:
        if cell.method == ORACLE and cell.task.finetune is None:
            return self._given(cell)
        before = self.before(cell)
        self._clear()
        if before and cell.task.finetune:
            tensors, facts = self._finetune(cell, before.tensors())
            return tensors, {**before.facts, **facts}
        return self._unlearn(cell, before.tensors() if before else {})

    def _given(self, cell: Cell) -> Made:
        tensors = oracle.tensors(oracle.require(self.plan.world, cell.task.forget[0]))
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        cost = dict.fromkeys(COSTS, 0) | {"delta_bytes": size}
        return tensors, {"cost": cost, "data": {}, "compensation": "trained anew without it"}

    def _unlearn(self, cell: Cell, start: Mapping[str, torch.Tensor]) -> Made:
        world, protocol, task = self.plan.world, self.plan.protocol, cell.task
        self._report("forget set", 0, 1)
        method = self.plan.methods[cell.method]

        def retain() -> LatentSet:
            return self._drawn(task.in_domain + task.out_of_domain, protocol.retain_images)

        kept = retain() if start else None  # of the untouched model, so before the U-Net holds other weights
        workplace = self._harness(
            cell,
            dataclasses.replace(task, forget=task.request, after=None),
            start,
            self._drawn(task.request, protocol.forget_images),
            retain if kept is None else lambda: kept,
            "unlearning",
            rest={concept: world.rest(concept) for concept in task.request},
            siblings=self.keys.siblings(task),
            teacher=cell.config.teacher,
            alternate=method.multi == "alternate",
        )
        outcome = unlearn(workplace, method(cell.config))
        facts = {"cost": outcome.cost, "data": outcome.ledger.facts(), "compensation": outcome.ledger.compensation}
        return outcome.delta, facts

    def _finetune(self, cell: Cell, start: Mapping[str, torch.Tensor]) -> Made:
        assert cell.task.finetune
        self._report("pictures to train further on", 0, 1)
        task = Task(cell.task.name, cell.task.forget[:1], (), ())
        examples, captions = self._pictures(cell.task)
        beside = {name: t for name, t in start.items() if name.startswith(TEXT)}  # nothing here trains it
        inside = {name: t for name, t in start.items() if name not in beside}
        workplace = self._harness(cell, task, inside, examples, lambda: examples, "training further", captions)
        with self._backbone().weights(beside):
            tensors, cost = further(workplace, cell.task.finetune, self.plan.protocol, cell.seed)
        return {**tensors, **beside}, {"further": cost}

    def _pictures(self, task: Task) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
        """What an unlearned model is trained further on, and its captions."""
        assert task.finetune
        assert task.after
        protocol, world = self.plan.protocol, self.plan.world
        if task.finetune.data != "unrelated":
            kept = task.after.in_domain + task.after.out_of_domain
            concepts, each = (kept, protocol.retain_images) if task.finetune.harmless else (task.after.forget, 0)
            examples = self._drawn(concepts, each or task.finetune.pictures)
            return examples, {concept: world.prompts("forget", concept) for concept in concepts}
        model = self._backbone()
        side = max(model.latent_shape[1:]) * model.pipeline.vae_scale_factor
        pictures, captions = unrelated.drawn(protocol.finetune_pictures, side)

        def encoded() -> Made:
            return {"latents": encoder.encode(model, pictures, self.plan.sample_batch)}, {}

        latents = self.store.stage("latents", self.keys.unrelated(side), encoded).tensors()["latents"]
        return LatentSet(latents, captions, (0,) * len(captions)), {caption: (caption,) for caption in captions}

    def _drawn(self, concepts: Sequence[str], count: int) -> LatentSet:
        """`count` images of each concept that the untouched model draws."""
        keys = {concept: self.keys.latents(concept, count) for concept in concepts}
        prompts = {concept: self.plan.world.prompts("forget", concept) for concept in concepts}
        return forget_set.build(
            self.store, self._backbone(), self.plan.protocol, prompts, keys, count, self.plan.sample_batch
        )

    def _harness(
        self,
        cell: Cell,
        task: Task,
        start: Mapping[str, torch.Tensor],
        forget: LatentSet,
        retain: Callable[[], LatentSet],
        doing: str,
        prompts: Mapping[str, tuple[str, ...]] | None = None,
        **more: Any,
    ) -> Harness:
        parts = self.plan.curve if cell.task in self.plan.tasks else 0

        def keep(part: int, weights: Mapping[str, torch.Tensor]) -> None:
            self.store.put("snapshots", self.keys.snapshot(cell, part, parts), weights, {"taken": True})

        return Harness(
            self._backbone(),
            task,
            forget,
            retain,
            prompts or {concept: self.plan.world.prompts("forget", concept) for concept in task.concepts},
            cell.seed,
            on_step=lambda step, steps, loss: self._report(f"{doing}, loss {loss:.4f}", step, steps),
            checkpoint=self.checkpoint(cell),
            snapshots=Snapshots(parts, keep) if parts > 1 else None,
            start=start,
            **more,
        )
