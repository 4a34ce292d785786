"""Everything that a run checks about its world before it draws an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.cells.checks import judge_outputs, recognition, reference_pictures, tokens
from bench.cells.judges import Reference
from bench.plan.plan import Plan
from bench.plan.plugin_checks import InvalidEntry
from bench.plan.task_checks import answer

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

ROUNDING = 1e-3  # how far the closeness of a concept to itself may be from 1


def require_valid(context: Context, references: bool) -> None:
    """Check the prompts, distances, judges and reference images of a run's world.

    Args:
        context: the run.
        references: whether to compute the features of all reference images now, in this process. Every cell needs
            them, so this is no extra work where the cells run on this machine.

    Raises InvalidEntry for a world that can't be measured, and WorldUnavailable as the world does.
    """
    plan = context.plan
    tokens.require_different_prompts(plan)
    require_distances(plan)
    judge_outputs.require_outputs(plan, context.judges)
    reference_pictures.require_references(plan)
    if references and not plan.world.reference_from_model:  # a check draws no image
        for concept in plan.concepts:
            Reference(context)(concept)
    recognition.require_known(context, compute=False)


def require_distances(plan: Plan) -> None:
    """Raise InvalidEntry unless all distances from concepts to forgotten concepts are finite and at least 0.

    `closeness` must be at most 1, and 1 for a concept and itself.
    """
    world = plan.world
    right = "it must return a similarity of two concepts, at most 1"
    for task in plan.tasks:
        for target in task.forget:
            call = f"closeness({target!r}, {target!r})"
            own = answer(world, call, lambda c=target: world.closeness(c, c), right)  # type: ignore[misc]
            if not _is_number(own) or abs(own - 1) > ROUNDING:
                raise InvalidEntry(f"world {world.name!r}: {call} is {own}; it must be 1 for a concept and itself")
            for concept in task.concepts:
                pair = f"({concept!r}, {target!r})"
                each = answer(world, f"distances{pair}", lambda a=concept, b=target: world.distances(a, b), right)  # type: ignore[misc]
                for name, value in each.items():
                    if _is_number(value) and value >= -ROUNDING:
                        continue
                    if name == "text":
                        close = world.closeness(concept, target)
                        raise InvalidEntry(
                            f"world {world.name!r}: closeness{pair} is {close}; it must be a finite number of at most 1"
                        )
                    raise InvalidEntry(
                        f"world {world.name!r}: the distance {name!r} of {pair} is {value}; it must be a finite number "
                        "of at least 0, or None where it is not defined"
                    )


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
