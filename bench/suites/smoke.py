"""The suite `smoke`: one small task that runs every part of the benchmark in seconds. Its figures mean nothing."""

from __future__ import annotations

from bench.core.task import Task
from bench.suites.base import Suite
from bench.suites.finegrained import forget_one
from bench.worlds.base import World


def smoke_tasks(world: World) -> tuple[Task, ...]:
    """One task: forget the first concept, keep two concepts of its domain and two of other domains."""
    task = forget_one(world, world.concepts[0])
    return (Task(task.name, task.forget, task.in_domain[:2], task.out_of_domain[:2]),)


SMOKE = Suite(
    "smoke",
    "one target, five concepts, two epochs: a test that takes seconds; its figures mean nothing",
    smoke_tasks,
    protocol={
        "images_per_concept": 3,
        "forget_images": 8,
        "retain_images": 2,
        "reference_per_concept": 4,
        "num_inference_steps": 8,
    },
    training={"epochs": 2, "steps": None, "batch_size": 4},
)
