"""The weights of a cell: unlearned by a method, trained further, or given as a file; and those on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from bench.cells import train
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput
from bench.cells.images import ConceptLatents, NeutralLatents
from bench.core import digest
from bench.core.checkpoint import Checkpoint
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan import oracle
from bench.plan.plan import Cell
from bench.training import finetuning, optimizers
from bench.training.loop import NonFiniteLoss
from bench.training.snapshots import Snapshots
from methods import ORACLE

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

CHECKPOINT_SECONDS = 60.0  # of training that an interruption may cost, about


class NothingToStartFrom(RuntimeError):
    """The weights that a cell starts from could not be made."""


class Unlearned(Artifact[[Cell]]):
    """What a method leaves: the key of weights that it trains or edits."""

    name, kind = "training", "deltas"
    libraries = NETWORKS

    def key(self, cell: Cell) -> Key:
        once, config = self.context.once, cell.config
        method = self.plan.methods[cell.method]
        return {
            "method": self.plan.base_method(cell.method),
            "config": once("config", config, lambda: digest.plain(config)),
            "learns": once("learns", cell.task, lambda: self._training_data(cell.task)),
            **once("optimizer", config.optimizer, lambda: optimizers.libraries(config.optimizer)),
            **once("method", cell.method, lambda: self.context.stamps.of_training(type(self), method)),
        }

    def _training_data(self, task: Task) -> str:
        """Digest of everything that a task gives a method to learn from."""
        world, protocol, latents = self.plan.world, self.plan.protocol, ConceptLatents(self.context)
        counts = dict.fromkeys(task.request, protocol.forget_images)
        counts |= dict.fromkeys(task.in_domain + task.out_of_domain, protocol.retain_images)
        given = {
            "rest": {concept: world.superclass_prompts(concept) for concept in task.request},
            "siblings": world.kept_siblings(task.request, task.in_domain),
            "sets": {concept: latents.key_digest(concept, count) for concept, count in counts.items()},
        }
        return digest.of_json(given)


class Finetuned(Artifact[[Cell]]):
    """What further training leaves of unlearned weights: the key of these weights."""

    name, kind = "finetuning", "deltas"
    libraries = NETWORKS

    def key(self, cell: Cell) -> Key:
        task, protocol = cell.task, self.plan.protocol
        assert task.finetune
        assert task.after
        kept = task.after.in_domain + task.after.out_of_domain
        counts = {
            "retained": dict.fromkeys(kept, protocol.retain_images),
            "concept": dict.fromkeys(task.after.forget, task.finetune.pictures),
            "unrelated": {},
        }[task.finetune.data]
        latents = ConceptLatents(self.context)
        sets = {concept: latents.key_digest(concept, count) for concept, count in counts.items()}
        return {
            "settings": finetuning.settings(protocol, task.finetune),
            **({"peft": version("peft")} if task.finetune.how == "lora" else {}),
            "sets": sets or self.context.stamps.of_code(NeutralLatents),
            **self.stamp(),
        }


class Snapshot(Artifact[[Cell, int, int]]):
    """A method's weights after `part` of `parts` equal parts of its training: 2 of 4 are 1 of 2.

    An entry whose fact "taken" is false stands for weights that there never were: nothing was trained.
    """

    name = kind = "snapshots"

    def key(self, cell: Cell, part: int, parts: int) -> Key:
        delta = digest.of_json(Weights(self.context).key(cell))
        return {"delta": delta, "part": Fraction(part, parts).as_integer_ratio()}

    def compute(self, cell: Cell, part: int, parts: int) -> StageOutput:
        return {}, {"taken": False}


class Weights(Artifact[[Cell]]):
    """The tensors of a cell that differ from the backbone's, on the CPU, by name.

    They come from a method, from further training, or from an oracle's file, as the cell's task has it.
    """

    name = kind = "deltas"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._failed: dict[str, str] = {}  # folder of weights that others start from -> why they could not be made

    def key(self, cell: Cell) -> Key:
        made: Key = self.context.once("delta", cell, lambda: self._key(cell))
        return made

    def _key(self, cell: Cell) -> Key:
        task = cell.task
        if cell.method == ORACLE and task.finetune is None:
            file = oracle.require(self.plan.world, task.forget[0])
            return {"backbone": self.context.content, "oracle": digest.of_file(file)}
        after = {"after": digest.of_json(self.key(dataclasses.replace(cell, task=task.after)))} if task.after else {}
        kind = Finetuned(self.context) if task.finetune else Unlearned(self.context)
        about = {"name": task.name, "task": self.context.once("task", task, lambda: digest.of_json(task))}
        return {**after, "backbone": self.context.content, **about, "seed": cell.seed, **kind.key(cell)}

    def __call__(self, cell: Cell) -> Entry:
        """The entry from the store, or made now. Raises NothingToStartFrom, and whatever a training raises."""
        try:
            entry = super().__call__(cell)
        except NonFiniteLoss:
            self.checkpoint(cell).remove()  # to go on from there would only end there again
            raise
        self.checkpoint(cell).remove()
        return entry

    def compute(self, cell: Cell) -> StageOutput:
        if cell.method == ORACLE and cell.task.finetune is None:
            return train.given(self.plan.world, cell.task.forget[0])
        before, context = self.before(cell), self.context
        context.make_room()
        training = train.TrainingContext(
            context.backbone,
            ConceptLatents(context),
            NeutralLatents(context),
            context.report,
            self.checkpoint(cell),
            self._snapshots_kept(cell),
        )
        if before and cell.task.finetune:
            tensors, facts = train.finetuned(self.plan, cell, before.tensors(), training)
            return tensors, {**before.facts, **facts}
        return train.unlearned(self.plan, cell, before.tensors() if before else {}, training)

    def snapshots(self, cell: Cell) -> list[Entry]:
        """The entries of `Snapshot` after each part of the cell's training but the last."""
        parts, snapshot = self.plan.curve, Snapshot(self.context)
        keys = [snapshot.key(cell, part, parts) for part in range(1, parts)]
        if not all(self.store.get(snapshot.kind, key) for key in keys):
            with self.store.locked(self.kind, self.key(cell)):
                if not all(self.store.get(snapshot.kind, key) for key in keys):
                    self.compute(cell)  # once more, where it was done without keeping any
        return [snapshot(cell, part, parts) for part in range(1, parts)]

    def before(self, cell: Cell) -> Entry | None:
        """The weights that the cell starts from; None for the untouched ones.

        Where they could not be made, they are not tried again for the next cell that starts from them.
        """
        if cell.task.after is None:
            return None
        first = dataclasses.replace(cell, task=cell.task.after)
        folder = str(self.path(first))
        if folder in self._failed and self.stored(first) is None:
            raise NothingToStartFrom(self._failed[folder])
        try:
            return self(first)
        except (NothingToStartFrom, OSError, SafetensorError):  # of files: no fault of the method, and may pass
            raise
        except Exception as error:
            self._failed[folder] = f"{first.name}, from which this starts, failed: {type(error).__name__}: {error}"
            raise NothingToStartFrom(self._failed[folder]) from error

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """Where the cell's training leaves its state while it is not done."""
        folder = self.store.path("checkpoints", self.key(cell))
        return Checkpoint(folder.with_suffix(".safetensors"), CHECKPOINT_SECONDS)

    def discard(self, cell: Cell) -> None:
        """Discard tensors that nothing starts from, once everything about the cell is measured: the results stay.

        Those on the way of a training, and those of a model that was trained further, as large as the whole U-Net.
        """
        for kind, key in self._passing(cell):
            self.store.discard_tensors(kind, key)

    def drop_discarded(self, cell: Cell) -> None:
        """Remove the entries of the cell, and of those before it, that have no tensors, so that they are made again.

        `discard` left them so, or they were taken over from another store without tensors.
        """
        for kind, key in [*self._passing(cell), *self._chain(cell)]:
            if self.store.tensors_discarded(kind, key):
                self.store.drop(kind, key)

    def drop(self, cell: Cell) -> None:
        """Remove the cell's weights, those that they start from, and the state of an unfinished training."""
        if cell.task.after:
            self.drop(dataclasses.replace(cell, task=cell.task.after))
        super().drop(cell)
        for kind, key in self._passing(cell):
            self.store.drop(kind, key)
        self.checkpoint(cell).remove()

    def _chain(self, cell: Cell) -> list[tuple[str, Key]]:
        """The weights that a cell ends with, those that it starts from, and so on."""
        before = self._chain(dataclasses.replace(cell, task=cell.task.after)) if cell.task.after else []
        return [(self.kind, self.key(cell)), *before]

    def _passing(self, cell: Cell) -> list[tuple[str, Key]]:
        own, snapshot, parts = [(self.kind, self.key(cell))], Snapshot(self.context), self.plan.curve
        between = [(snapshot.kind, snapshot.key(cell, part, parts)) for part in range(1, parts)]
        return (own if cell.task.finetune else []) + between

    def _snapshots_kept(self, cell: Cell) -> Snapshots | None:
        parts, snapshot = self.plan.curve if cell.task in self.plan.tasks else 0, Snapshot(self.context)

        def keep(part: int, weights: Mapping[str, torch.Tensor]) -> None:
            self.store.put(snapshot.kind, snapshot.key(cell, part, parts), weights, {"taken": True})

        return Snapshots(parts, keep) if parts > 1 else None
