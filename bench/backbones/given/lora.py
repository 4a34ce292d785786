"""Files of low-rank adapters (LoRA) on a backbone's networks: their changes are added to the weights.

diffusers reads the names of kohya, of peft and its own. It leaves out what it does not know, with at most a log
message, so the layers of a file are compared with the networks before and after.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.backbones import pipeline
from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.checks.tensor_check import TensorMismatch
from bench.backbones.folder import read_json

KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder"}  # prefix of a layer's name -> network
PEFT = {"unet.": "unet", "text_encoder.": "text_encoder", "base_model.model.": "unet"}
PAIRS = (("lora_down", "lora_up"), ("lora_A", "lora_B"), ("lora.down", "lora.up"))  # first and second factor
OTHERS = (".dora_scale", "hada_", "lokr_", ".oft_", ".diff", ".lora_mid", ".lora_magnitude_vector")
FOLDER = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.bin")
SPM = (
    "all its adapters have rank 1, as those of SPM have; SPM scales its adapters for each prompt, and these figures "
    "are of the adapters at full scale for every prompt, so they are not SPM's"
)


@dataclass(frozen=True)
class Layer:
    """One adapted layer.

    Args:
        network: "unet" or "text_encoder".
        name: name of the layer in the network.
        factors: names of its two factors in the file.
        rank: number of rows of the first factor.
    """

    network: str
    name: str
    factors: tuple[str, str]
    rank: int


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors with these names are low-rank adapters."""
    return any(f".{first}." in f".{name}" for name in names for pair in PAIRS for first in pair)


def file_in(folder: Path) -> Path | None:
    """The file of adapters in a folder; None if there is none."""
    return next((folder / name for name in FOLDER if (folder / name).is_file()), None)


def layers_of(where: str, tensors: Mapping[str, torch.Tensor], folder: Path) -> list[Layer]:
    """The layers that adapters change, each compared with the networks of a pipeline folder.

    Args:
        where: the file, for messages.
        tensors: the tensors of the file, which may be on the device "meta".
        folder: the pipeline folder of the backbone.

    Raises TensorMismatch for a tensor that is no plain low-rank adapter, for a layer that the networks do not have, and
    for factors of other sizes than the layer's.
    """
    if others := [name for name in tensors if any(mark in name for mark in OTHERS)]:
        raise TensorMismatch(
            f"{where} has adapters of another kind than LoRA ({others[0]}); merge them into the weights"
        )
    modules = {part: _modules(folder, part) for part in ("unet", "text_encoder")}
    found: list[Layer] = []
    for name, down in tensors.items():
        pair = next((pair for pair in PAIRS if f".{pair[0]}." in name), None)
        if pair is None:
            if not name.endswith(".alpha") and not any(f".{second}." in name for _, second in PAIRS):
                raise TensorMismatch(f"{where}: the tensor {name} is no part of an adapter")
            continue
        stem = name.partition(f".{pair[0]}.")[0]
        second = name.replace(f".{pair[0]}.", f".{pair[1]}.")
        up = tensors.get(second)
        part, layer = _layer(where, stem, modules)
        weight = modules[part][layer]
        if up is None:
            raise TensorMismatch(f"{where}: {name} has no second factor ({pair[1]})")
        sizes = (up.shape[0], down.shape[1])
        if sizes != tuple(weight.shape[:2]) or up.shape[1] != down.shape[0]:
            raise TensorMismatch(
                f"{where}: {stem} has factors of shapes {tuple(up.shape)} and {tuple(down.shape)}; the layer {layer} "
                f"of the backbone has weights of shape {tuple(weight.shape)}"
            )
        found.append(Layer(part, layer, (name, second), down.shape[0]))
    return found


def _modules(folder: Path, part: str) -> dict[str, torch.Tensor]:
    """Layer -> its weight, of a network that a pipeline folder describes."""
    state = folder_check.empty_network(folder, part).state_dict()
    return {name.removesuffix(".weight"): t for name, t in state.items() if name.endswith(".weight") and t.ndim > 1}


def _layer(where: str, stem: str, modules: Mapping[str, Mapping[str, torch.Tensor]]) -> tuple[str, str]:
    for prefix, part in KOHYA.items():
        if stem.startswith(prefix):
            flat = {name.replace(".", "_"): name for name in modules[part]}
            flat |= {f"text_model_{short}": name for short, name in flat.items()} if part == "text_encoder" else {}
            if name := flat.get(stem.removeprefix(prefix)):
                return part, name
    for prefix, part in PEFT.items():
        name = stem.removeprefix(prefix)
        name = name.removeprefix(folder_check.WRAPPER) if part == "text_encoder" else name
        if stem.startswith(prefix) and name in modules[part]:
            return part, name
    shown = ", ".join([name for name in modules["unet"] if "attn2" in name][: tensor_check.SHOWN])
    raise TensorMismatch(
        f"{where}: the backbone has no layer {stem!r}; layers of its U-Net are {shown}, ..., and kohya's files name "
        "them lora_unet_ and the name with _ for each dot"
    )


def warnings_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    """What a reader of the figures must know about adapters with these layers."""
    known = list(layers)
    all_kinds = all(any(part in layer.name for layer in known) for part in ("attn1", "attn2", "ff.", "proj_in"))
    return (SPM,) if all_kinds and {layer.rank for layer in known} == {1} else ()


def fused(
    where: str, tensors: Mapping[str, torch.Tensor], layers: Iterable[Layer], folder: Path
) -> dict[str, torch.Tensor]:
    """The changed weights W + (alpha / rank) B A, float32 on the CPU, by their names in `Backbone.weights`.

    Args:
        where, tensors, folder: as for `layers_of`; here the tensors have their values.
        layers: what `layers_of` returned.

    Raises TensorMismatch if diffusers did not add the change of a layer.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports bitsandbytes if it is installed
    model = pipeline.read(folder)
    networks = {"unet": model.unet, "text_encoder": model.text_encoder}
    changing = [layer for layer in layers if all(tensors[name].count_nonzero() for name in layer.factors)]
    before = [networks[layer.network].state_dict()[f"{layer.name}.weight"].clone() for layer in changing]
    model.load_lora_weights({_diffusers(name): tensor.float() for name, tensor in tensors.items()})
    model.fuse_lora()
    model.unload_lora_weights()
    changed: dict[str, torch.Tensor] = {}
    for layer, weight in zip(changing, before, strict=True):
        now = networks[layer.network].state_dict()[f"{layer.name}.weight"]
        if torch.equal(now, weight):
            raise TensorMismatch(f"{where}: diffusers did not add the adapter of the layer {layer.name} to its weights")
        prefix = pipeline.TEXT if layer.network == "text_encoder" else ""
        changed[f"{prefix}{layer.name}.weight"] = now.detach().clone().contiguous()
    return changed


def _diffusers(name: str) -> str:
    """The name of a tensor of peft's own files as diffusers reads it."""
    return f"unet.{name.removeprefix('base_model.model.')}" if name.startswith("base_model.model.") else name


def scaled(folder: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a folder of adapters, with the second factors times alpha / rank if peft's settings name an alpha.

    Files of adapters without their own alphas mean a factor of 1. With `use_rslora` the factor is alpha / sqrt(rank).
    """
    file = folder / "adapter_config.json"
    settings = read_json(file) if file.is_file() else {}
    alpha, power = settings.get("lora_alpha"), 0.5 if settings.get("use_rslora") else 1.0
    if not isinstance(alpha, int | float):
        return dict(tensors)
    return {
        name: tensor * (alpha / tensor.shape[1] ** power) if ".lora_B." in name else tensor
        for name, tensor in tensors.items()
    }
