"""Whether a world's reference images have the type, shape, size and number that it promises."""

from __future__ import annotations

from typing import Any

import torch

from bench.backbones import folder
from bench.plan.plan import Plan
from bench.plan.plugin_checks import InvalidEntry
from bench.plan.task_checks import answer
from bench.worlds import World

FEW = 2  # images that are asked for first; they must also be the first of any larger number
RIGHT = "it must return uint8 images (count, 3, H, W), or none, (0, 3, H, W), for a concept without reference images"


def pictures(world: World, concept: str, count: int) -> torch.Tensor:
    """The first `count` reference images of a concept, uint8 (count, 3, H, W), or none, (0, 3, H, W).

    A world has none of a concept if `reference` returns none or raises NotImplementedError. Raises InvalidEntry for
    anything else than so many images, and if the first images change with `count` or from call to call.
    """
    call = f"reference({concept!r}, {count})"
    found = _asked(world, concept, count)
    if not len(found):
        return found
    if len(found) != count:
        raise InvalidEntry(f"world {world.name!r}: {call} has {len(found)} images; it must have {count}, or none")
    if not torch.equal(found[:FEW], _asked(world, concept, min(count, FEW))):
        raise InvalidEntry(
            f"world {world.name!r}: {call} begins with other images than reference({concept!r}, {min(count, FEW)}); "
            "the first images must be the same for every number, and each time"
        )
    return found


def require_references(plan: Plan) -> None:
    """Raise InvalidEntry unless the first images of each concept are valid, of one size, not black, and not all alike.

    With the world's own backbone they must have the size of its images.
    """
    world, sizes, brightest = plan.world, dict[tuple[int, int], str](), 0
    shown: list[torch.Tensor] = []
    for concept in plan.concepts:
        found = pictures(world, concept, FEW)
        if len(found):
            shown.append(found)
            sizes.setdefault((found.shape[2], found.shape[3]), concept)
            brightest = max(brightest, int(found.max()))
    if plan.run.backbone is None and sizes:
        sizes = {folder.picture_size(plan.folder): "the backbone", **sizes}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise InvalidEntry(
            f"world {world.name!r}: reference images of {other!r} have {second[1]} x {second[0]} pixels, those of "
            f"{one!r} have {first[1]} x {first[0]}; all must have one size, that of the backbone's images"
        )
    if sizes and brightest <= 1:
        raise InvalidEntry(
            f"world {world.name!r}: the reference images have values up to {brightest}; they must be 0 to 255"
        )
    if len(shown) > 1 and all(torch.equal(one, shown[0]) for one in shown):
        raise InvalidEntry(
            f"world {world.name!r}: the first reference images of all {len(shown)} concepts are the same; each concept "
            "must have its own"
        )


def _asked(world: World, concept: str, count: int) -> torch.Tensor:
    def ask() -> Any:
        try:
            return world.reference(concept, count)
        except NotImplementedError:
            return torch.empty(0, 3, 0, 0, dtype=torch.uint8)

    call = f"reference({concept!r}, {count})"
    found = answer(world, call, ask, RIGHT)
    if not torch.is_tensor(found) or found.dtype != torch.uint8 or found.ndim != 4 or found.shape[1] != 3:
        what = f"{found.dtype} {tuple(found.shape)}" if torch.is_tensor(found) else type(found).__name__
        raise InvalidEntry(f"world {world.name!r}: {call} is {what}; {RIGHT}")
    return found
