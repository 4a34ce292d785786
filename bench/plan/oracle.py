"""Oracles: models that were trained from scratch without one concept. No method can be expected to do better."""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from bench.worlds.base import World, WorldUnavailable


def find(world: World, concept: str) -> Path | None:
    """The file of the oracle without `concept`; None if the world has no such oracle, or it was not built here.

    Raises WorldUnavailable for a file that is damaged or belongs to another default backbone.
    """
    return world.oracle(concept) if concept in world.oracle_concepts else None


def require(world: World, concept: str) -> Path:
    """The file of the oracle without `concept`. Raises WorldUnavailable if there is none, or as `find` does."""
    file = find(world, concept)
    if file is None:
        raise WorldUnavailable(f"there is no oracle of {concept!r} here: {hint(world)}")
    return file


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors (float32) of an oracle's U-Net and text encoder, by their names in `Backbone.weights`.

    Args:
        path: a safetensors file, plain or compressed by xz (its name then ends in ".xz").

    Raises WorldUnavailable for a file that can't be read.
    """
    try:
        stored = load(read(path))
    except (OSError, SafetensorError, lzma.LZMAError, EOFError) as error:
        raise WorldUnavailable(f"{path} can't be read as an oracle's weights: {error}") from error
    return {name: tensor.float() for name, tensor in stored.items()}


def read(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in ".xz".

    Raises OSError if the file can't be read, lzma.LZMAError if it is damaged, EOFError if it is cut short.
    """
    if path.suffix != ".xz":
        return path.read_bytes()
    with lzma.open(path) as compressed:
        return compressed.read()


def hint(world: World) -> str:
    """One sentence for a user: which oracles the world has, and how to build them."""
    if not world.oracle_concepts:
        return f"the world {world.name!r} has no oracle, a model retrained without a concept"
    return f"the world {world.name!r} has oracles of {', '.join(world.oracle_concepts)}: {world.oracle_hint}"
