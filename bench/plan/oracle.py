"""Oracles: models retrained from nothing without one concept. What a method could at best attain."""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from bench.worlds.base import World, WorldUnavailable


def find(world: World, concept: str) -> Path | None:
    """File of the oracle that never saw `concept`; None where the world has none, or none was built here.

    Raises WorldUnavailable for a file that is damaged or belongs to other weights.
    """
    place = world.oracles.get(concept)
    return place() if place else None


def require(world: World, concept: str) -> Path:
    """File of the oracle that never saw `concept`. Raises WorldUnavailable where there is none."""
    file = find(world, concept)
    if file is None:
        raise WorldUnavailable(f"there is no oracle of {concept!r} here: {hint(world)}")
    return file


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """An oracle's U-Net and text encoder, float32, named as `bench.backbones.pipeline.Backbone.weights` takes them.

    Args:
        path: a safetensors file, plain or compressed by xz.

    Raises WorldUnavailable for a file that can't be read.
    """
    try:
        stored = load(read(path))
    except (OSError, SafetensorError, lzma.LZMAError, EOFError) as error:
        raise WorldUnavailable(f"{path} can't be read as an oracle's weights: {error}") from error
    return {name: tensor.float() for name, tensor in stored.items()}


def read(path: Path) -> bytes:
    """A safetensors file's bytes, decompressed where its name ends in ".xz".

    Raises OSError, lzma.LZMAError, or EOFError where a compressed file ends too early.
    """
    if path.suffix != ".xz":
        return path.read_bytes()
    with lzma.open(path) as compressed:
        return compressed.read()


def hint(world: World) -> str:
    """One sentence for people: which oracles the world has, and how to come by them."""
    if not world.oracles:
        return f"the world {world.name!r} has no oracle, a model retrained without a concept"
    return f"the world {world.name!r} has oracles of {', '.join(world.oracles)}: {world.oracle_hint}"
