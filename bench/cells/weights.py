"""The weights of a cell, from the store or made now of those that it starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError

from bench.backbones import vae
from bench.backbones.pipeline import Backbone
from bench.cells import train
from bench.cells.keys import Keys
from bench.cells.train import StageOutput, TrainingContext
from bench.core.checkpoint import Checkpoint
from bench.core.store import Entry, Store
from bench.plan.plan import Cell, Plan
from bench.training import forget_set, neutral_pictures
from bench.training.forget_set import LatentSet
from bench.training.loop import NonFiniteLoss
from bench.training.snapshots import Snapshots
from methods import ORACLE

CHECKPOINT_SECONDS = 60.0  # of training that an interruption may cost, about


class NothingToStartFrom(RuntimeError):
    """The weights that a cell starts from could not be made."""


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
        self._failed: dict[str, str] = {}  # place of weights that others start from -> why there are none

    def of(self, cell: Cell) -> Entry:
        """The tensors that differ from the backbone's. Raises NothingToStartFrom, and whatever a training raises."""
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
            with self.store.locked("deltas", self.keys.delta(cell)):
                if not all(self.store.get("snapshots", key) for key in keys):
                    self._make(cell)  # once more, where it was done without keeping any
        return [self.store.stage("snapshots", key, lambda: ({}, {"taken": False})) for key in keys]

    def before(self, cell: Cell) -> Entry | None:
        """The weights that the cell starts from; None for the untouched ones.

        Where they could not be made, they are not tried again for the next cell that starts from them.
        """
        after = cell.task.after
        if after is None:
            return None
        first = dataclasses.replace(cell, task=after)
        place = str(self.store.path("deltas", self.keys.delta(first)))
        if place in self._failed and self.store.get("deltas", self.keys.delta(first), verify=False) is None:
            raise NothingToStartFrom(self._failed[place])
        try:
            return self.of(first)
        except (NothingToStartFrom, OSError, SafetensorError):  # of files: no fault of the method, and may pass
            raise
        except Exception as error:
            self._failed[place] = f"{first.name}, from which this starts, failed: {type(error).__name__}: {error}"
            raise NothingToStartFrom(self._failed[place]) from error

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """Where the cell's training leaves its state while it is not done."""
        place = self.store.path("checkpoints", self.keys.delta(cell))
        return Checkpoint(place.with_suffix(".safetensors"), CHECKPOINT_SECONDS)

    def thin(self, cell: Cell) -> None:
        """Give up tensors that nothing starts from, once all about the cell is measured: the results stand without.

        Those on the way of a training, and those of a model that was trained further, as large as the whole U-Net.
        """
        for kind, key in self._passing(cell):
            self.store.discard_tensors(kind, key)

    def remake(self, cell: Cell) -> None:
        """Forget what stands without its tensors, of the cell and of those before it, so that it is made again whole.

        `thin` left it so, or it was taken over from another store without them.
        """
        for kind, key in [*self._passing(cell), *self._along(cell)]:
            if self.store.tensors_discarded(kind, key):
                self.store.drop(kind, key)

    def _along(self, cell: Cell) -> list[tuple[str, dict[str, Any]]]:
        """The weights that a cell ends with, and those that it starts from, and so on."""
        before = self._along(dataclasses.replace(cell, task=cell.task.after)) if cell.task.after else []
        return [("deltas", self.keys.delta(cell)), *before]

    def _passing(self, cell: Cell) -> list[tuple[str, dict[str, Any]]]:
        own = [("deltas", self.keys.delta(cell))] if cell.task.finetune else []
        parts = range(1, self.plan.curve)
        return own + [("snapshots", self.keys.snapshot(cell, part, self.plan.curve)) for part in parts]

    def drop(self, cell: Cell) -> None:
        """Forget the cell's weights, those that they start from, and what there is of them half done."""
        if cell.task.after:
            self.drop(dataclasses.replace(cell, task=cell.task.after))
        self.store.drop("deltas", self.keys.delta(cell))
        for kind, key in self._passing(cell):
            self.store.drop(kind, key)
        self.checkpoint(cell).remove()

    def _make(self, cell: Cell) -> StageOutput:
        if cell.method == ORACLE and cell.task.finetune is None:
            return train.given(self.plan.world, cell.task.forget[0])
        before = self.before(cell)
        self._clear()
        context = TrainingContext(
            self._backbone(), self.drawn, self._unrelated, self._report, self.checkpoint(cell), self._on_the_way(cell)
        )
        if before and cell.task.finetune:
            tensors, facts = train.finetuned(self.plan, cell, before.tensors(), context)
            return tensors, {**before.facts, **facts}
        return train.unlearned(self.plan, cell, before.tensors() if before else {}, context)

    def _on_the_way(self, cell: Cell) -> Snapshots | None:
        parts = self.plan.curve if cell.task in self.plan.tasks else 0

        def keep(part: int, weights: Mapping[str, torch.Tensor]) -> None:
            self.store.put("snapshots", self.keys.snapshot(cell, part, parts), weights, {"taken": True})

        return Snapshots(parts, keep) if parts > 1 else None

    def drawn(self, concepts: Sequence[str], count: int) -> LatentSet:
        """`count` images of each concept that the untouched model draws."""
        keys = {concept: self.keys.latents(concept, count) for concept in concepts}
        prompts = {concept: self.plan.world.prompts("forget", concept) for concept in concepts}
        return forget_set.build(
            self.store, self._backbone(), self.plan.protocol, prompts, keys, count, self.plan.sample_batch
        )

    def _unrelated(self) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
        model = self._backbone()
        side = max(model.latent_shape[1:]) * model.pipeline.vae_scale_factor
        drawn, captions = neutral_pictures.drawn(self.plan.protocol.finetune_pictures, side)

        def encoded() -> StageOutput:
            return {"latents": vae.encode(model, drawn, self.plan.sample_batch)}, {}

        latents = self.store.stage("latents", self.keys.unrelated(side), encoded).tensors()["latents"]
        return LatentSet(latents, captions, (0,) * len(captions)), {caption: (caption,) for caption in captions}
