"""How the weights of a cell are made: by a method, by training an unlearned model further, or from an oracle's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.backbones.pipeline import TEXT, Backbone
from bench.cells.artifact import Report, StageOutput
from bench.cells.images import ConceptLatents, NeutralLatents
from bench.core.checkpoint import Checkpoint
from bench.core.task import Task
from bench.plan import oracle
from bench.plan.plan import Cell, Plan
from bench.training.finetuning import further
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.training.snapshots import Snapshots
from bench.worlds import World

COSTS = ("seconds", "steps", "student_forwards", "teacher_forwards", "peak_bytes")

StartTensors = Mapping[str, torch.Tensor]  # the tensors that earlier requests changed


@dataclass(frozen=True)
class TrainingContext:
    """What a training takes from the run.

    Args:
        backbone: the networks, untouched.
        latents: images of concepts that the untouched model draws.
        neutral: pictures that show no concept.
        report: told what is being done, how much of it is done, of how much.
        checkpoint: where the training leaves its state now and then.
        snapshots: what is kept of the weights on the way; None for nothing.
    """

    backbone: Backbone
    latents: ConceptLatents
    neutral: NeutralLatents
    report: Report
    checkpoint: Checkpoint
    snapshots: Snapshots | None

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
        """A workplace for `task`; what is `doing` there is reported step by step. `more`: as `Harness` takes it."""
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
            **more,
        )


def given(world: World, concept: str) -> StageOutput:
    """The oracle that never saw `concept`. Raises WorldUnavailable where there is none."""
    tensors = oracle.tensors(oracle.require(world, concept))
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    cost = dict.fromkeys(COSTS, 0) | {"delta_bytes": size}
    return tensors, {"cost": cost, "data": {}, "compensation": "trained anew without it"}


def unlearned(plan: Plan, cell: Cell, start: StartTensors, context: TrainingContext) -> StageOutput:
    """What the cell's method makes of the weights `start`, forgetting what its task asks for."""
    world, protocol, task = plan.world, plan.protocol, cell.task
    context.report("forget set", 0, 1)
    method = plan.methods[cell.method]
    workplace = context.harness(
        dataclasses.replace(task, forget=task.request, after=None),
        context.latents.of_concepts(task.request, protocol.forget_images),
        lambda: context.latents.of_concepts(task.in_domain + task.out_of_domain, protocol.retain_images),
        {concept: world.prompts("forget", concept) for concept in task.concepts},
        cell.seed,
        "unlearning",
        superclass_prompts={concept: world.superclass_prompts(concept) for concept in task.request},
        start=start,
        siblings=world.kept_siblings(task.request, task.in_domain),
        teacher=cell.config.teacher,
        alternate=method.multi == "alternate",
    )
    outcome = unlearn(workplace, method(cell.config))
    facts = {"cost": outcome.cost, "data": outcome.data_use.counts(), "compensation": outcome.data_use.compensation}
    return outcome.delta, facts


def finetuned(plan: Plan, cell: Cell, start: StartTensors, context: TrainingContext) -> StageOutput:
    """What further training, as the cell's task has it, makes of the weights `start`."""
    assert cell.task.finetune
    context.report("pictures to train further on", 0, 1)
    examples, captions = pictures(plan, cell.task, context)
    beside = {name: t for name, t in start.items() if name.startswith(TEXT)}  # nothing here trains it
    inside = {name: t for name, t in start.items() if name not in beside}
    task = Task(cell.task.name, cell.task.forget[:1], (), ())
    workplace = context.harness(
        task, examples, lambda: examples, captions, cell.seed, "training further", start=inside
    )  # fmt: skip
    with context.backbone.weights(beside):
        tensors, cost = further(workplace, cell.task.finetune, plan.protocol, cell.seed)
    return {**tensors, **beside}, {"further": cost}


def pictures(plan: Plan, task: Task, context: TrainingContext) -> tuple[LatentSet, dict[str, tuple[str, ...]]]:
    """What an unlearned model is trained further on, and its captions."""
    assert task.finetune
    assert task.after
    if task.finetune.data == "unrelated":
        return context.neutral.captioned()
    kept = task.after.in_domain + task.after.out_of_domain
    concepts, each = (kept, plan.protocol.retain_images) if task.finetune.harmless else (task.after.forget, 0)
    examples = context.latents.of_concepts(concepts, each or task.finetune.pictures)
    return examples, {concept: plan.world.prompts("forget", concept) for concept in concepts}
