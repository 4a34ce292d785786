"""Whether a world's judges know the concepts that they are to judge, by their labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.plan.plugin_checks import InvalidEntry, is_text
from bench.plan.task_checks import answer
from bench.worlds import Judge, World

RIGHT = "it must be a bench.worlds.Judge, whose module and head are networks"


def load(world: World, name: str, concepts: Sequence[str], device: torch.device) -> Judge:
    """The judge `name` of a world, on a device.

    Args:
        world: the world.
        name: the judge's name.
        concepts: the concepts of the run. The judge must know those that the world lets it judge.

    Raises WorldUnavailable, and InvalidEntry unless the result is a Judge of which each label is another text.
    """
    said = f"world {world.name!r}: judge {name!r}"
    judge = answer(world, f"judge({name!r}, ...)", lambda: world.judge(name, device), RIGHT)
    if not isinstance(judge, Judge) or not all(isinstance(m, torch.nn.Module) for m in (judge.module, judge.head)):
        raise InvalidEntry(f"world {world.name!r}: judge({name!r}, ...) is {type(judge).__name__}; {RIGHT}")
    labels = judge.labels
    if not isinstance(labels, tuple) or not labels or not all(map(is_text, labels)):
        raise InvalidEntry(f"{said} has the labels {labels!r}; they must be a tuple of texts, one for each output")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise InvalidEntry(f"{said} has the label {twice[0]!r} twice; each output must have a label of its own")
    if unknown := [c for c in concepts if world.judge_of(c) == name and c not in labels]:
        raise InvalidEntry(
            f"{said} is to judge {unknown[0]!r}, and has no such label among its {len(labels)}; its labels must be "
            "concepts as the world calls them"
        )
    return judge
