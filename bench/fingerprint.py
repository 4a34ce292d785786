"""What a figure depends on besides the method: two figures compare only if these are the same."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from bench import digest
from bench.backbone import arithmetic
from bench.panel import Panel
from bench.plan import Plan

PACKAGES = ("torch", "diffusers", "transformers", "timm", "torch-fidelity", "open_clip_torch", "numpy")


def describe(plan: Plan, panel: Panel, backbone: str, device: torch.device) -> dict[str, Any]:
    """The measurement of a plan, in full; `backbone` is the digest of its folder."""
    return {
        "world": plan.world.name,
        "backbone": backbone,
        "tasks": [digest.plain(task) for task in plan.tasks],
        "prompts": {concept: list(plan.world.prompts("evaluate", concept)) for concept in plan.concepts},
        "headnouns": {concept: plan.world.headnoun(concept) for task in plan.tasks for concept in task.forget},
        "protocol": digest.plain(plan.protocol),
        "panel": panel.digest,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": arithmetic(device, plan.protocol.precision, plan.run.compile),
        "versions": {name: version(name) for name in PACKAGES},
    }


def short(description: dict[str, Any]) -> str:
    """Twelve hex digits that stand for a description on a board."""
    return digest.of_json(description)[:12]
