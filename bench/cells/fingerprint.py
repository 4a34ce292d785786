"""Everything that a figure depends on besides the method. Two figures are comparable only if all of it is equal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bench.backbones import folder, sampling_paths, solvers
from bench.core import digest
from bench.plan.plan import Plan


def describe(
    plan: Plan, panel: str, backbone: str, machine: dict[str, Any], raised: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A description of how a plan measures: tasks, prompts, protocol, judges, backbone, machine and versions.

    Args:
        plan: the plan.
        panel: digest of the judges.
        backbone: digest of the pipeline.
        machine: the machine, as described by `bench.core.device.describe`.
        raised: versions of artifacts and metrics that are not the first version (`bench.cells.artifact.raised`).
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
        **solvers_of(plan),
        **machine,
    }


def solvers_of(plan: Plan) -> dict[str, dict[str, str]]:
    """The part of keys for the settings of the solvers that sample images ("solver") and training data ("path").

    Each is left out where it has its usual settings and release 0.1 had the same ones. Release 0.1 took them from the
    folder's scheduler, so its entries for other folders must not be found.
    """
    config, protocol = folder.scheduler_settings(plan.folder), plan.protocol
    solver, path = protocol.scheduler, (sampling_paths.SOLVER, sampling_paths.SPACING)
    images = solvers.settings(solver, protocol.spacing)
    paths = solvers.settings(*path)
    parts = {}
    if protocol.timestep_spacing is not None or images != solvers.formerly(config, solver):
        parts["solver"] = images
    # the last step of a path, which is never taken, is the only one that set_alpha_to_one changes
    if paths != {**solvers.formerly(config, *path), "set_alpha_to_one": paths["set_alpha_to_one"]}:
        parts["path"] = paths
    return {name: {key: str(value) for key, value in part.items()} for name, part in parts.items()}


def short(description: dict[str, Any]) -> str:
    """The fingerprint of a description: at least twelve hex digits, as `worded` cuts them."""
    return worded(digest.of_json(description))


def worded(digits: str) -> str:
    """The shortest beginning of some hex digits, of at least twelve, that does not look like a decimal number.

    A reader of a table would convert a text such as "123456789012" or "12345e678901" to a number.
    """
    ends = range(12, len(digits) + 1)
    return next((digits[:n] for n in ends if not re.fullmatch(r"\d+(e\d+)?", digits[:n])), digits)
