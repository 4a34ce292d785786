"""Oracles: models that were trained from scratch without one concept. No method can be expected to do better."""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.pipeline import TEXT
from bench.worlds.base import World, WorldUnavailable

XZ = ".xz"
UNREADABLE = (OSError, SafetensorError, lzma.LZMAError, EOFError)


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

    Raises WorldUnavailable for a file that can't be read, and for values that are not finite.
    """
    try:
        stored = load(read(path))
        tensor_check.require_finite(str(path), stored.items())
    except (*UNREADABLE, tensor_check.TensorMismatch) as error:
        raise WorldUnavailable(f"{path} can't be read as an oracle's weights: {error}") from error
    return {name: tensor.float() for name, tensor in stored.items()}


def require_fitting(path: Path, folder: Path) -> None:
    """Raise WorldUnavailable unless an oracle's file has all tensors of a backbone's U-Net, and no unknown tensors.

    The file has all tensors of the text encoder or none of them. Only the headers of files are read.

    Args:
        path: the oracle's file.
        folder: the pipeline folder of the backbone.
    """
    try:
        with lzma.open(path) if path.suffix == XZ else path.open("rb") as stream:
            names = tensor_check.streamed_header(stream, path)
        text = {name.removeprefix(TEXT): tensor for name, tensor in names.items() if name.startswith(TEXT)}
        unet = {name: tensor for name, tensor in names.items() if not name.startswith(TEXT)}
        for part, tensors in (("unet", unet), *((("text_encoder", text),) if text else ())):
            expected, noun = folder_check.tensors_of(folder, part), folder_check.NAMES[part]
            tensor_check.compare(
                str(path), f"{noun} in {folder}", tensors, expected, folder_check.HARMLESS.get(part, ())
            )
    except (*UNREADABLE, tensor_check.TensorMismatch) as error:
        raise WorldUnavailable(f"{path} is no oracle of this backbone: {error}") from error


def read(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in ".xz".

    Raises OSError if the file can't be read, lzma.LZMAError if it is damaged, EOFError if it is cut short.
    """
    if path.suffix != XZ:
        return path.read_bytes()
    with lzma.open(path) as compressed:
        return compressed.read()


def hint(world: World) -> str:
    """One sentence for a user: which oracles the world has, and how to build them."""
    if not world.oracle_concepts:
        return f"the world {world.name!r} has no oracle, a model retrained without a concept"
    return f"the world {world.name!r} has oracles of {', '.join(world.oracle_concepts)}: {world.oracle_hint}"
