"""Worlds by name; other packages add theirs through the entry-point group `lethe.worlds`."""

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
