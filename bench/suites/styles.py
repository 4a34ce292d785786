"""The suites `style`, which forgets styles, and `object`, which forgets a concept in every style."""

from __future__ import annotations

import re

from bench.core.task import Task
from bench.suites.base import Suite
from bench.suites.neighbours import nearest_neighbour
from bench.worlds.base import SPLITS, World


def style_tasks(world: World) -> tuple[Task, ...]:
    """A task for each style but the plain one. The other styles and all concepts in the plain style are kept.

    Raises ValueError if the world has fewer than two styles besides the plain one.
    """
    if len(world.styles) < 3:
        raise ValueError(f"the world {world.name!r} has fewer than two styles besides the plain one")
    return tuple(
        Task(target, (target,), tuple(other for other in world.styles if other != target), world.concepts)
        for target in world.styles[1:]
    )


def object_tasks(world: World) -> tuple[Task, ...]:
    """A task for one target in each domain: the one with the closest nearest neighbour.

    The other concepts of the domain and every style are kept. Prompts about styles name some concepts; these are no
    targets if the domain has others, so that no image must both show the target and not show it. Concepts that presets
    were tuned on are never targets.
    """
    prompts = [p for style in world.styles for split in SPLITS for p in world.prompts(split, style)]
    tasks = []
    for concepts in world.domains.values():
        named = {c for c in concepts if any(re.search(rf"(?<!\w){re.escape(c)}(?!\w)", prompt) for prompt in prompts)}
        allowed = set(concepts) - named - set(world.tuning_concepts) or set(concepts) - set(world.tuning_concepts)
        if len(allowed) > 1:
            target = max(allowed, key=lambda c: (nearest_neighbour(world, c)[1], c))
        else:
            target = next(iter(allowed))
        siblings = tuple(c for c in concepts if c != target)
        tasks.append(Task(target, (target,), siblings, world.styles, "near"))
    return tuple(tasks)


STYLE = Suite(
    "style",
    "each style but the plain one; the other styles are kept, and every concept in the plain style",
    style_tasks,
)

OBJECT = Suite(
    "object",
    "a near twin in each domain, in every style; the rest of the domain and every style are kept",
    object_tasks,
    all_styles=True,
)
