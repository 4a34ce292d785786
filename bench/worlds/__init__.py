"""Worlds by name. Each entry is an instance of a subclass of `World`.

Other packages announce theirs in the entry-point group `lethe.worlds`; `docs/add-a-world.md` shows how.
"""

from bench.core.registry import Registry
from bench.worlds.base import Clip, Judge, Options, World, WorldUnavailable

WORLDS: Registry[World] = Registry(
    "world",
    {
        "pocket": "bench.worlds.pocket.world:POCKET",
        "natural": "bench.worlds.natural.world:NATURAL",
        "canvas": "bench.worlds.canvas.world:CANVAS",
    },
    group="lethe.worlds",
)

__all__ = ["WORLDS", "Clip", "Judge", "Options", "World", "WorldUnavailable"]
