"""What a figure depends on besides the method: two figures compare only if these are the same."""

from __future__ import annotations

from typing import Any

from bench import digest
from bench.plan import Plan


def describe(plan: Plan, panel: str, backbone: str, machine: dict[str, Any]) -> dict[str, Any]:
    """The measurement of a plan, in full; `panel` and `backbone` are digests, `machine` as `bench.machine` has it."""
    return {
        "world": plan.world.name,
        "backbone": backbone,
        "tasks": [digest.plain(task) for task in plan.tasks],
        "prompts": {concept: list(plan.world.prompts("evaluate", concept)) for concept in plan.concepts},
        "headnouns": {concept: plan.world.headnoun(concept) for task in plan.tasks for concept in task.forget},
        "protocol": digest.plain(plan.protocol),
        "panel": panel,
        **({"chosen": dict(plan.world.chosen)} if plan.world.chosen else {}),
        **machine,
    }


def short(description: dict[str, Any]) -> str:
    """Twelve hex digits that stand for a description on a board."""
    return digest.of_json(description)[:12]
