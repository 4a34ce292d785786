"""The committed weights: their paths, and the check against the manifest."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bench.backbones.checks import tensor_check
from bench.core.digest import of_file

WEIGHTS = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"


class WeightsError(RuntimeError):
    """A weight file is missing or does not match the manifest."""


def sha256(file: Path) -> str:
    """The SHA-256 digest of a file, in hex."""
    return of_file(file)


def manifest(folder: Path = WEIGHTS) -> dict[str, Any]:
    """The manifest of the weights: recipe, seeds, steps, seconds, machine, quality, distances, file digests."""
    file = folder / MANIFEST
    if not file.is_file():
        raise WeightsError(
            f"{file} is missing: no pocket weights here. Restore the folder from the repository, or rebuild it with "
            "`python -m bench.worlds.pocket.recipe.train --stage all --out DIR`."
        )
    return json.loads(file.read_text())


def verify(folder: Path, part: str = "") -> None:
    """Check the digest of every file under `part` ("pipeline", "judges/species.safetensors", ...; default: all).

    Raises WeightsError with the file, the expected digest and the found digest.
    """
    known: dict[str, str] = manifest(folder)["files"]
    wanted = {name: digest for name, digest in known.items() if name == part or name.startswith(part and part + "/")}
    if not wanted:
        raise WeightsError(f"{folder / MANIFEST} lists no file {part!r}; it lists {', '.join(sorted(known))}")
    for name, digest in wanted.items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{file} is missing; expected a file with sha256 {digest}")
        found = sha256(file)
        if found != digest:
            raise WeightsError(f"{file} is damaged: expected sha256 {digest}, found {found}")


@cache
def pipeline_folder(folder: Path = WEIGHTS) -> Path:
    """The pipeline folder in Stable Diffusion's format. It is verified once per process."""
    verify(folder, "pipeline")
    return folder / "pipeline"


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file under `folder` but the manifest, by POSIX path relative to it."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MANIFEST)
    return {f.relative_to(folder).as_posix(): sha256(f) for f in files}


def save_half(model: torch.nn.Module, file: Path) -> None:
    """State dict as safetensors, floating-point tensors in fp16."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, file)


def load_into(model: torch.nn.Module, file: Path) -> torch.nn.Module:
    """`model` in fp32 and eval mode with the tensors of `file`; WeightsError where they do not fit."""
    try:
        tensors = load_file(file)
        tensor_check.compare(str(file), type(model).__name__, tensors, model.state_dict())
        tensor_check.require_finite(str(file), tensors.items())
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, tensor_check.TensorMismatch) as error:
        raise WeightsError(f"{file} does not hold the weights of {type(model).__name__}: {error}") from error
    return model.eval()
