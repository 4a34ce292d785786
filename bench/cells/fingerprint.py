"""What a figure depends on besides the method: two figures compare only if these are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bench.core import digest
from bench.plan.plan import Plan


def describe(
    plan: Plan, panel: str, backbone: str, machine: dict[str, Any], raised: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The measurement of a plan, in full.

    Args:
        panel, backbone: digests of the judges and of the pipeline.
        machine: as `bench.core.device.describe` has it.
        raised: versions of artifacts and metrics other than the first (`bench.cells.artifact.raised`).
    """
    return {
        "world": plan.world.name,
        "backbone": backbone,
        "tasks": [digest.plain(task) for task in plan.tasks],
        "prompts": {concept: list(plan.world.prompts("evaluate", concept)) for concept in plan.concepts},
        "headnouns": {concept: plan.world.headnoun(concept) for task in plan.tasks for concept in task.forget},
        "protocol": digest.plain(plan.protocol),
        "panel": panel,
        **({"chosen": dict(plan.world.chosen)} if plan.world.chosen else {}),
        **({"raised": dict(raised)} if raised else {}),
        **machine,
    }


def short(description: dict[str, Any]) -> str:
    """Twelve hex digits that stand for a description on a board: more where a table's reader took them for a number."""
    return worded(digest.of_json(description))


def worded(digits: str) -> str:
    """The first twelve of some hex digits, or as many more as are no decimal number, with an exponent or without."""
    ends = range(12, len(digits) + 1)
    return next((digits[:n] for n in ends if not re.fullmatch(r"\d+(e\d+)?", digits[:n])), digits)
