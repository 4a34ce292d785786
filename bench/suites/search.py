"""The suite `search`: the concepts that learning rates are tuned on. No other suite forgets them."""

from __future__ import annotations

from bench.core.task import Task
from bench.suites.base import Suite
from bench.suites.finegrained import forget_one
from bench.worlds.base import World


def search_tasks(world: World) -> tuple[Task, ...]:
    """A task for each concept that the world sets aside for tuning. Raises ValueError if it sets none aside."""
    if not world.tuning_concepts:
        raise ValueError(f"the world {world.name!r} sets no concept aside to tune on")
    return tuple(forget_one(world, concept) for concept in world.tuning_concepts)


SEARCH = Suite(
    "search",
    "the concepts that learning rates are tuned on, with fewer images; no other suite forgets them",
    search_tasks,
    protocol={"images_per_concept": 8},
)
