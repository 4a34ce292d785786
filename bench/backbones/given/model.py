"""A finished model as changes of the backbone: which tensors it gives, and by how much they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.backbones import single_file
from bench.backbones.checks import file_kind, folder_check, tensor_check
from bench.backbones.checks.tensor_check import SHOWN, TensorMismatch
from bench.backbones.given import compvis, contents, lora
from bench.backbones.given.contents import Contents, Tensors
from bench.backbones.pipeline import TEXT, Backbone
from bench.core import digest

NOUNS = {"unet": "U-Net", "text_encoder": "text encoder"}
PREFIXES = {"unet": "", "text_encoder": TEXT}
NEARLY_WHOLE = 0.5  # a file that lacks fewer of a network's tensors than this share may be damaged
EMA_LEFT = "the file also contains EMA weights of the U-Net; its ordinary weights were measured"


@dataclass(frozen=True)
class Difference:
    """How one network of a finished model differs from the backbone's.

    Args:
        given: number of its tensors that the file contains or its adapters change.
        changed: number of these that differ from the backbone's, beyond the rounding of the file's dtype.
        total: number of tensors that the network has.
        norm: norm of the change of all its weights, divided by the norm of the backbone's weights.
    """

    given: int
    changed: int
    total: int
    norm: float


@dataclass(frozen=True)
class GivenModel:
    """The changes that a finished model makes to the backbone.

    Args:
        tensors: the tensors that differ, float32 on the CPU, by their names in `Backbone.weights`.
        differences: network ("unet" or "text_encoder") -> how it differs, for the networks that the file contains.
        warnings: what a reader of the figures must know about the model.
    """

    tensors: Tensors
    differences: dict[str, Difference]
    warnings: tuple[str, ...]


def content(path: Path) -> str:
    """Digest of the files of a model, for cache keys. Raises ValueError for a folder that is not a model."""
    files = contents.files_of(path)
    if files == [path]:
        return digest.of_file(path)
    return digest.of_files(path if path.is_dir() else path.parent, files)


def check(path: Path, folder: Path, whole: bool = False) -> None:
    """Compare names and shapes of a model's tensors with a backbone. No value is read.

    Args:
        path: the model's file or folder.
        folder: the pipeline folder of the backbone.
        whole: whether the model must have every tensor of the U-Net, and every one or none of the text encoder.

    Raises ValueError (TensorMismatch is a subclass) if no tensor or adapter fits, if one does not, and for a file that
    can't be read. Raises FileNotFoundError if a part of a folder is missing.
    """
    found = contents.read(path, values=False)
    if found.adapters:
        lora.layers_of(str(path), found.adapters, folder)
    else:
        _named(found, folder, whole)


def read(path: Path, folder: Path, backbone: Backbone) -> GivenModel:
    """The changes that a model makes to a backbone.

    Args:
        path: the model's file or folder.
        folder: the pipeline folder of the backbone.
        backbone: the same backbone with its own weights.

    Raises the errors of `check`, and ValueError for a model with another VAE, for values that are not finite, and for
    a model that changes nothing.
    """
    found, warnings = contents.read(path, values=True), list[str]()
    if found.adapters:
        layers = lora.layers_of(str(path), found.adapters, folder)
        warnings += lora.warnings_of(layers)
        tensor_check.require_finite(str(path), found.adapters.items())
        given = lora.fused(str(path), found.adapters, layers, folder)
    else:
        given = _named(found, folder)
        tensor_check.require_finite(str(path), given.items())
        _require_same_vae(found, folder, backbone)
        warnings += [EMA_LEFT] if found.ema else []
    states = {"unet": backbone.unet.state_dict(), "text_encoder": backbone.pipeline.text_encoder.state_dict()}
    changed, differences = Tensors(), dict[str, Difference]()
    for part, state in states.items():
        own = {n: t for n, t in given.items() if n.startswith(TEXT) == (part == "text_encoder")}
        if own:
            new = {n: t for n, t in own.items() if not _same(t, state[n.removeprefix(PREFIXES[part])])}
            changed |= {name: tensor.float().contiguous() for name, tensor in new.items()}
            norm = _relative_norm({n.removeprefix(PREFIXES[part]): t for n, t in new.items()}, state)
            differences[part] = Difference(len(own), len(new), len(state), norm)
            absent = [name for name in state if PREFIXES[part] + name not in own]
            if not found.adapters and 0 < len(absent) < NEARLY_WHOLE * len(state):
                warnings.append(_lacks(absent, NOUNS[part]))
    if not changed:
        raise ValueError(f"{path} changes nothing: all its {len(given)} tensors are those of the backbone")
    return GivenModel(changed, differences, tuple(warnings))


def _lacks(absent: list[str], network: str) -> str:
    """The warning about a file that has most tensors of a network, but not all: few methods leave such a file."""
    shown = ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")
    return (
        f"the file lacks {len(absent)} tensors of the {network} ({shown}); the backbone's were measured in their place"
    )


def _named(found: Contents, folder: Path, whole: bool = False) -> Tensors:
    """The tensors of a file by their names in `Backbone.weights`. Raises TensorMismatch unless all of them fit."""
    networks = {part: folder_check.empty_network(folder, part) for part in NOUNS}
    expected = {part: network.state_dict() for part, network in networks.items()}
    original = compvis.unet_names(expected["unet"], networks["unet"].config.layers_per_block)
    each: dict[str, Tensors] = {part: {} for part in NOUNS}
    each["unet"] = {original.get(name, name): tensor for name, tensor in found.networks.get("unet", {}).items()}
    each["text_encoder"] = dict(found.networks.get("text_encoder", {}))
    for name, tensor in found.other.items():
        part = "text_encoder" if name in expected["text_encoder"] else "unet"
        if not _harmless(name):
            each[part][original.get(name, name)] = tensor
    each = {part: folder_check.renamed(part, tensors, networks[part]) for part, tensors in each.items()}
    if not any(name in expected[part] for part, tensors in each.items() for name in tensors):
        raise TensorMismatch(_no_match(found, expected["unet"]))
    for part, tensors in each.items():
        harmless = folder_check.HARMLESS.get(part, ())
        complete = part in found.whole or (whole and (tensors or part == "unet"))
        wanted = expected[part] if complete else {n: t for n, t in expected[part].items() if n in tensors}
        tensor_check.compare(str(found.where), f"backbone's {NOUNS[part]}", tensors, wanted, harmless)
    return {
        PREFIXES[part] + name: tensor
        for part, tensors in each.items()
        for name, tensor in tensors.items()
        if name in expected[part]
    }


def _harmless(name: str) -> bool:
    return name in single_file.UNUSED or name.startswith(single_file.UNUSED_STARTS)


def _no_match(found: Contents, expected: Mapping[str, torch.Tensor]) -> str:
    names = [name for tensors in (*found.networks.values(), found.other) for name in tensors]
    what = next((f", but {what}" for fits, what, _ in file_kind.KINDS if fits(names)), "")
    return (
        f"{found.where} is not a model that fits the backbone{what}: none of its {len(names)} tensors has the name of "
        f"a tensor of the backbone. It has {', '.join(names[:SHOWN])}, ...; the U-Net has "
        f"{', '.join(list(expected)[:SHOWN])}, ..."
    )


def _require_same_vae(found: Contents, folder: Path, backbone: Backbone) -> None:
    given: Mapping[str, Any] = found.networks.get("vae", {})
    if not given:
        return
    network = folder_check.empty_network(folder, "vae")
    if any(name.startswith("first_stage_model.") for name in given):
        from diffusers.loaders import single_file_utils

        given = single_file_utils.convert_ldm_vae_checkpoint(dict(given), network.config)
    given = folder_check.renamed("vae", given, network)
    own = backbone.vae.state_dict()
    tensor_check.compare(str(found.where), "backbone's VAE", given, own)
    if other := [name for name, tensor in given.items() if not _same(tensor, own[name])]:
        raise ValueError(
            f"{found.where} has another VAE than the backbone ({len(other)} of {len(own)} tensors differ, such as "
            f"{other[0]}), so its images would differ for that reason too; measure it beside its own backbone, or give "
            "its U-Net alone"
        )


def _same(given: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a tensor has the backbone's values, as the dtype of the file rounds them."""
    return torch.equal(given, own.detach().cpu().to(given.dtype))


def _relative_norm(changed: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> float:
    change = sum(
        float((tensor.double() - state[name].detach().cpu().double()).square().sum())
        for name, tensor in changed.items()
    )
    whole = sum(
        float(tensor.detach().double().square().sum()) for tensor in state.values() if tensor.is_floating_point()
    )
    return float((change / whole) ** 0.5) if whole else 0.0
