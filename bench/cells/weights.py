"""The artifacts of weights: the weights of a cell, and the snapshots during its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from bench.backbones.given import model
from bench.backbones.sampler import seed_of
from bench.cells import train
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput, of_method, plugin_modules
from bench.cells.images import ConceptLatents, NeutralLatents
from bench.core import digest
from bench.core.checkpoint import Checkpoint
from bench.core.contents import declared_files
from bench.core.store import Entry, TensorsDiscarded
from bench.core.task import Task
from bench.plan.plan import Cell
from bench.training import attachment, finetuning, optimizers
from bench.training.guard.watch import LeftBehind
from bench.training.loop import NonFiniteLoss
from bench.training.method import files_of
from bench.training.snapshots import Snapshots

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

GIVEN = "oracle"  # a finished model's part of the key; at first only oracles were given
CHECKPOINT_SECONDS = 60.0  # seconds between two checkpoints: an interruption loses about this much training


class NothingToStartFrom(RuntimeError):
    """The weights that a cell starts from could not be made."""


class Unlearned(Artifact[[Cell]]):
    """The key of weights that a method trains or edits."""

    name, kind = "training", "deltas"
    libraries = NETWORKS

    def key(self, cell: Cell) -> Key:
        once, config, device = self.context.once, cell.config, self.context.machine.get("device", "cpu")
        method = self.plan.methods[cell.method]
        return {
            "method": self.plan.base_method(cell.method),
            "config": once("config", config, lambda: digest.plain(config)),
            "learns": once("learns", cell.task, lambda: self._training_data(cell.task)),
            **once("optimizer", config.optimizer, lambda: optimizers.key_parts(config.optimizer, device)),
            **{name: part for name, part in self.context.solvers.items() if name == "path"},
            **once("method", cell.method, lambda: self.context.stamps.of_training(type(self), method)),
            **once("files", (cell.method, config), lambda: self.files(cell)),
        }

    def files(self, cell: Cell) -> Key:
        """The contents of the files that the method declares; {} if it declares none."""
        name = self.plan.base_method(cell.method)
        files = files_of(name, self.plan.methods[cell.method], cell.config)
        return {"files": declared_files.digests(f"method {name!r}", files)} if files else {}

    def require_unchanged(self, cell: Cell) -> None:
        """Raise RuntimeError if a file that the method declares has other content than in the key."""
        if self.files(cell) != self.context.once("files", (cell.method, cell.config), lambda: self.files(cell)):
            raise RuntimeError("a file that the method declares changed while the method ran; run it again")

    def _training_data(self, task: Task) -> str:
        """Digest of the images, prompts and siblings that a method may use to train on a task."""
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
    """The key of unlearned weights that were trained further."""

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
    """The weights after `part` of `parts` equal parts of a method's training. Part 2 of 4 has the key of part 1 of 2.

    If the method does not train, the entry has no tensors, and its fact "taken" is false.
    """

    name = kind = "snapshots"

    def key(self, cell: Cell, part: int, parts: int) -> Key:
        delta = digest.of_json(Weights(self.context).key(cell))
        return {"delta": delta, "part": Fraction(part, parts).as_integer_ratio()}

    def compute(self, cell: Cell, part: int, parts: int) -> StageOutput:
        return {}, {"taken": False}


class Weights(Artifact[[Cell]]):
    """The tensors of a cell's weights that differ from the backbone's, and what acts while the cell is sampled.

    Depending on the cell, they come from a method, from further training, or from the file of a finished model. For a
    method that acts while images are sampled see `bench.training.attachment`. `Context.model` is the model of an entry.
    """

    name = kind = "deltas"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._failed: dict[str, str] = {}  # folder of weights that others start from -> the reason of their failure

    def key(self, cell: Cell) -> Key:
        key: Key = self.context.once("delta", cell, lambda: self._key(cell))
        return key

    def _key(self, cell: Cell) -> Key:
        task = cell.task
        if cell.given and task.finetune is None:
            return {"backbone": self.context.content, GIVEN: model.content(cell.given)}
        after = {"after": digest.of_json(self.key(dataclasses.replace(cell, task=task.after)))} if task.after else {}
        kind = Finetuned(self.context) if task.finetune else Unlearned(self.context)
        about = {"name": task.name, "task": self.context.once("task", task, lambda: digest.of_json(task))}
        return {**after, "backbone": self.context.content, **about, "seed": cell.seed, **kind.key(cell)}

    def __call__(self, cell: Cell) -> Entry:
        """The entry from the store, or trained now.

        Raises NothingToStartFrom if the weights that the cell starts from failed, and every exception of the training.
        """
        try:
            entry = super().__call__(cell)
        except (NonFiniteLoss, LeftBehind):
            self.checkpoint(cell).remove()  # a training that continued from this state would fail again
            raise
        self.checkpoint(cell).remove()
        return entry

    def compute(self, cell: Cell) -> StageOutput:
        if cell.given and cell.task.finetune is None:
            return train.given(self.plan, cell, cell.given, self.context.backbone)
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
        start, kept = attachment.split(before.tensors() if before else {})
        finetune = cell.task.finetune
        who = "the further training" if finetune else f"method {cell.method!r}"
        own = plugin_modules(self.plan.methods[cell.method])
        given = {"task": cell.task, "config": cell.config, "protocol": self.plan.protocol}
        seed = seed_of("global", cell.seed, cell.task.name)
        with context.watched(who, own, given, seed, training.warn, networks=True) as watch:
            if before and finetune:
                for warning in before.facts.get("warnings", ()):
                    training.warn(warning)
                tensors, facts = train.finetuned(self.plan, cell, start, training)
                tensors, facts = {**tensors, **attachment.prefixed(kept)}, {**before.facts, **facts}
            else:
                tensors, facts = train.unlearned(self.plan, cell, start, training, watch)
                facts = {**facts, **self._attached(cell)}
        if not (before and finetune):
            Unlearned(context).require_unchanged(cell)
        return tensors, {**facts, **({"warnings": training.warnings} if training.warnings else {})}

    def snapshots(self, cell: Cell) -> list[Entry]:
        """The entries of `Snapshot` after each part of the cell's training except the last, computed if necessary."""
        parts, snapshot = self.plan.curve, Snapshot(self.context)
        keys = [snapshot.key(cell, part, parts) for part in range(1, parts)]
        if not all(self.store.get(snapshot.kind, key) for key in keys):
            with self.store.locked(self.kind, self.key(cell)):
                if not all(self.store.get(snapshot.kind, key) for key in keys):
                    self.compute(cell)  # train again: an earlier training stored no snapshots
        return [snapshot(cell, part, parts) for part in range(1, parts)]

    def before(self, cell: Cell) -> Entry | None:
        """The weights that the cell starts from; None for the original weights.

        If their training fails, it is not repeated for the next cell that starts from them. Raises NothingToStartFrom
        in this case, OSError or SafetensorError if files can't be read or written, and TensorsDiscarded if the weights
        that they start from have no tensors any more.
        """
        if cell.task.after is None:
            return None
        first = dataclasses.replace(cell, task=cell.task.after)
        folder = str(self.path(first))
        if folder in self._failed and self.stored(first) is None:
            raise NothingToStartFrom(self._failed[folder])
        try:
            return self(first)
        except (NothingToStartFrom, OSError, SafetensorError, TensorsDiscarded):  # errors of files may be temporary
            raise
        except Exception as error:
            self._failed[folder] = f"{first.name}, from which this starts, failed: {type(error).__name__}: {error}"
            raise NothingToStartFrom(self._failed[folder]) from error

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """The checkpoint file of the cell's training."""
        folder = self.store.path("checkpoints", self.key(cell))
        return Checkpoint(folder.with_suffix(".safetensors"), CHECKPOINT_SECONDS)

    def discard(self, cell: Cell) -> None:
        """Discard tensors that no other cell starts from. Call it when the cell is measured; the results are kept.

        These are the snapshots of a training, and the weights of a model that was trained further or was given. Each
        may be as large as the whole U-Net.
        """
        for kind, key in self._passing(cell):
            self.store.discard_tensors(kind, key)

    def drop_discarded(self, cell: Cell) -> None:
        """Remove entries without tensors, so that they are computed again: of the cell, and of the cells before it.

        `discard` discarded their tensors, or they were imported from another store without tensors.
        """
        for kind, key in [*self._passing(cell), *self._chain(cell)]:
            if self.store.tensors_discarded(kind, key):
                self.store.drop(kind, key)

    def drop(self, cell: Cell) -> None:
        """Remove the cell's weights, snapshots and checkpoint, and those of the cells that it starts from."""
        if cell.task.after:
            self.drop(dataclasses.replace(cell, task=cell.task.after))
        super().drop(cell)
        for kind, key in self._passing(cell):
            self.store.drop(kind, key)
        self.checkpoint(cell).remove()

    def _chain(self, cell: Cell) -> list[tuple[str, Key]]:
        """Kind and key of the weights of a cell, then of the weights that it starts from, and so on."""
        before = self._chain(dataclasses.replace(cell, task=cell.task.after)) if cell.task.after else []
        return [(self.kind, self.key(cell)), *before]

    def _passing(self, cell: Cell) -> list[tuple[str, Key]]:
        own, snapshot, parts = [(self.kind, self.key(cell))], Snapshot(self.context), self.plan.curve
        between = [(snapshot.kind, snapshot.key(cell, part, parts)) for part in range(1, parts)]
        return (own if cell.task.finetune or cell.given else []) + between

    def _snapshots_kept(self, cell: Cell) -> Snapshots | None:
        parts, snapshot = self.plan.curve if cell.task in self.plan.tasks else 0, Snapshot(self.context)

        def keep(part: int, weights: Mapping[str, torch.Tensor], attached: Mapping[str, torch.Tensor]) -> None:
            tensors, facts = {**weights, **attachment.prefixed(attached)}, {"taken": True, **self._attached(cell)}
            self.store.put(snapshot.kind, snapshot.key(cell, part, parts), tensors, facts)

        return Snapshots(parts, keep) if parts > 1 else None

    def _attached(self, cell: Cell) -> dict[str, Any]:
        """The fact about what acts while images of the cell are sampled; {} if nothing does."""
        plan, method = self.plan, self.plan.methods[cell.method]
        if not method.attaches():
            return {}
        words = [plan.world.bare_name(concept) for concept in cell.task.forget]
        stamp = {"version": of_method(method), **Unlearned(self.context).files(cell)}
        return attachment.fact(plan.base_method(cell.method), cell.config, words, stamp)
