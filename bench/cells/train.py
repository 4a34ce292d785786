"""Makes the weights of a cell: trains a method, trains an unlearned model further, or reads a finished model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.backbones.checks import tensor_check
from bench.backbones.given import model
from bench.backbones.pipeline import TEXT, Backbone
from bench.cells.artifact import Report, StageOutput, modules_of_method, plugin_modules
from bench.cells.images import ConceptLatents, NeutralLatents
from bench.core.checkpoint import Checkpoint
from bench.core.contents import declared_files, source_files
from bench.core.task import Task
from bench.plan import plugin_import
from bench.plan.plan import Cell, Plan
from bench.training import attachment, file_watch
from bench.training.accounting import DataUse
from bench.training.finetuning import further
from bench.training.forget_set import LatentSet
from bench.training.guard.watch import Watch
from bench.training.harness import Harness
from bench.training.loop import UnlearningResult, unlearn
from bench.training.method import Given, files_of
from bench.training.snapshots import Snapshots

COSTS = ("seconds", "steps", "student_forwards", "teacher_forwards", "peak_bytes")

StartTensors = Mapping[str, torch.Tensor]  # tensors of the start weights that differ from the original model, by name


@dataclass(frozen=True)
class TrainingContext:
    """The parts of a run that a training uses.

    Args:
        backbone: the networks, with the original weights.
        latents: images of concepts, sampled by the original model.
        neutral: pictures that show no concept.
        report: is called with the name of the current step, the number done and the total.
        checkpoint: the file to which the training saves its state from time to time.
        snapshots: which weights are stored during the training; None to store none.

    Attributes:
        warnings: what a reader of the cell's figures must know about its weights; see `warn`.
    """

    backbone: Backbone
    latents: ConceptLatents
    neutral: NeutralLatents
    report: Report
    checkpoint: Checkpoint
    snapshots: Snapshots | None
    warnings: list[str] = field(default_factory=list, init=False)

    def warn(self, text: str) -> None:
        """Add a warning about the cell's weights: a sentence without a full stop. Boards show it beside the figures.

        The same warning is kept once.
        """
        if text not in self.warnings:
            self.warnings.append(text)

    def harness(
        self,
        task: Task,
        forget: LatentSet,
        retain: Callable[[], LatentSet],
        prompts: Mapping[str, tuple[str, ...]],
        seed: int,
        doing: str,
        **more: Any,
    ) -> Harness:
        """A harness for `task` that reports every step.

        Args:
            task, forget, retain, prompts, seed: arguments of `Harness`.
            doing: name of the training in progress reports.
            more: further arguments of `Harness`.
        """
        return Harness(
            self.backbone,
            task,
            forget,
            retain,
            prompts,
            seed,
            on_step=lambda step, steps, loss: self.report(f"{doing}, loss {loss:.4f}", step, steps),
            checkpoint=self.checkpoint,
            snapshots=self.snapshots,
            warn=self.warn,
            **more,
        )


def given(plan: Plan, cell: Cell, path: Path, backbone: Backbone) -> StageOutput:
    """The weights of a finished model in the file or folder `path`, and facts about it.

    Raises ValueError like `bench.backbones.given.model.read`.
    """
    found, method = model.read(path, plan.folder, backbone), plan.methods[cell.method]
    assert issubclass(method, Given)
    size = sum(t.numel() * t.element_size() for t in found.tensors.values())
    facts: dict[str, Any] = {"cost": dict.fromkeys(COSTS, 0) | {"delta_bytes": size}, "data": {}}
    facts["compensation"] = method.compensation
    if method.fidelity == "given":
        facts["differences"] = {part: dataclasses.asdict(one) for part, one in found.differences.items()}
    return found.tensors, {**facts, **({"warnings": list(found.warnings)} if found.warnings else {})}


def unlearned(plan: Plan, cell: Cell, start: StartTensors, context: TrainingContext, watch: Watch) -> StageOutput:
    """Train the cell's method from the weights `start` to forget the concepts of the task's request.

    `watch` is the watch of the method's block.

    Returns the tensors that differ from the original model and those of the attachment, on the CPU, and facts about the
    training.
    """
    world, method = plan.world, plan.methods[cell.method]
    harness = _harness(plan, cell, start, context, watch) if method.learns() else None
    sources = source_files.closure(modules_of_method(method)) if plugin_modules(method) else {}
    noting = file_watch.watching(sources) if sources else nullcontext(file_watch.Reads())  # Lethe's read no file
    with noting as reads:
        made = method(cell.config)
        outcome = unlearn(harness, made) if harness else _nothing_learnt(start)
        if method.attaches():  # what it reads and what it leaves behind shows here, before an image is sampled
            backbone, words = context.backbone, [world.bare_name(concept) for concept in cell.task.forget]
            with backbone.weights(outcome.delta), attachment.entered(made, backbone, words, outcome.attached):
                pass
    reads.add(*plugin_import.reads_of(sources))
    own = files_of(cell.method, method, cell.config)
    known = (*own, *declared_files.listed_of("the world", world), *sources.values())
    if undeclared := reads.undeclared(known, (plan.folder, context.latents.store.root)):
        context.warn(file_watch.warning(undeclared))
    tensor_check.require_finite(f"the weights that {cell.method} leaves", outcome.delta.items())
    facts = {"cost": outcome.cost, "data": outcome.data_use.counts(), "compensation": outcome.data_use.compensation}
    return {**outcome.delta, **attachment.prefixed(outcome.attached)}, facts


def _nothing_learnt(start: StartTensors) -> UnlearningResult:
    """The result of a method that only acts while images are sampled: no cost, and no data used."""
    return UnlearningResult(dict(start), {}, dict.fromkeys((*COSTS, "delta_bytes"), 0), DataUse())


def _harness(plan: Plan, cell: Cell, start: StartTensors, context: TrainingContext, watch: Watch) -> Harness:
    """What the cell's method works with. Arguments as in `unlearned`."""
    world, protocol, task, method = plan.world, plan.protocol, cell.task, plan.methods[cell.method]
    context.report("forget set", 0, 1)

    def retained() -> LatentSet:
        # every method learns from these images, so what this one changed must not show in them
        with watch.suspended():
            return context.latents.of_concepts(task.in_domain + task.out_of_domain, protocol.retain_images)

    siblings = world.kept_siblings(task.request, task.in_domain)
    return context.harness(
        dataclasses.replace(task, forget=task.request, after=None),
        context.latents.of_concepts(task.request, protocol.forget_images),
        retained,
        {concept: world.prompts("forget", concept) for concept in task.concepts},
        cell.seed,
        "unlearning",
        superclass_prompts={concept: world.superclass_prompts(concept) for concept in task.request},
        start=start,
        siblings=siblings,
        next_sibling={c: next_kept(c, world.domain_members(c), kept) for c, kept in siblings.items() if kept},
        teacher=cell.config.teacher,
        words={concept: world.bare_name(concept) for concept in task.concepts},
        alternate=method.multi == "alternate",
    )


def next_kept(concept: str, members: Sequence[str], kept: Sequence[str]) -> str:
    """The kept concept after `concept` in the order of its domain, `members`; after the last comes the first."""
    place = members.index(concept)
    return next((c for c in (*members[place + 1 :], *members[:place]) if c in kept), kept[0])


def finetuned(plan: Plan, cell: Cell, start: StartTensors, context: TrainingContext) -> StageOutput:
    """Train the weights `start` further, with the settings of the cell's task.

    Returns the tensors that differ from the original model, on the CPU, and facts about the training.
    """
    assert cell.task.finetune
    context.report("pictures to train further on", 0, 1)
    examples, captions = pictures(plan, cell.task, context)
    text_encoder = {name: t for name, t in start.items() if name.startswith(TEXT)}  # further training keeps it as it is
    unet = {name: t for name, t in start.items() if name not in text_encoder}
    task = Task(cell.task.name, cell.task.forget[:1], (), ())
    harness = context.harness(
        task, examples, lambda: examples, captions, cell.seed, "training further", start=unet
    )  # fmt: skip
    with context.backbone.weights(text_encoder):
        tensors, cost = further(harness, cell.task.finetune, plan.protocol, cell.seed)
    return {**tensors, **text_encoder}, {"further": cost}


def pictures(plan: Plan, task: Task, context: TrainingContext) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
    """The training data of `finetuned`: latents of images, and their captions by concept."""
    assert task.finetune
    assert task.after
    if task.finetune.data == "unrelated":
        return context.neutral.captioned()
    kept = task.after.in_domain + task.after.out_of_domain
    concepts, each = (kept, plan.protocol.retain_images) if task.finetune.harmless else (task.after.forget, 0)
    examples = context.latents.of_concepts(concepts, each or task.finetune.pictures)
    return examples, {concept: plan.world.prompts("forget", concept) for concept in concepts}
