"""Files of low-rank adapters (LoRA) on a backbone's networks: their changes are added to the weights.

The names of kohya, of peft and of diffusers are read. diffusers adds the changes. It leaves out what it does not know,
with at most a log message, so the layers of a file are compared with the networks before and after.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.backbones import pipeline
from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.checks.tensor_check import TensorMismatch
from bench.backbones.folder import read_json

KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder"}  # prefix of a layer's name -> network
PREFIXES = (  # the same for the files of diffusers and peft
    ("unet.", "unet"), ("text_encoder.", "text_encoder"), ("base_model.model.", "unet"),
    ("base_model.model.", "text_encoder"), ("", "unet"), ("", "text_encoder"),
)  # fmt: skip
PAIRS = {  # name of the first factor -> name of the second
    "lora_down": "lora_up", "lora_A": "lora_B", "lora.down": "lora.up",
    "lora_linear_layer.down": "lora_linear_layer.up",
}  # fmt: skip
# the name of a layer, the factor, and the name of the adapter where peft wrote it
FACTOR = r"(.+?[._])({})((?:\.\w+)?\.weight)"
FIRST = re.compile(FACTOR.format("|".join(map(re.escape, PAIRS))))
SECOND = re.compile(FACTOR.format("|".join(map(re.escape, PAIRS.values()))))
OTHER_KINDS = ("hada_", "lokr_", ".oft_")
OTHERS = (*OTHER_KINDS, ".dora_scale", ".diff", ".lora_mid", ".lora_magnitude_vector")
FOLDER = tuple(f"{stem}.{end}" for stem in ("pytorch_lora_weights", "adapter_model") for end in ("safetensors", "bin"))
SETTINGS = "adapter_config.json"  # peft's settings, beside its file
METADATA = "lora_adapter_metadata"  # entry in a safetensors file of diffusers with the same settings
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
        alpha: name of its alpha in the file, whether the file has one or not.
        rank: number of rows of the first factor.
    """

    network: str
    name: str
    factors: tuple[str, str]
    alpha: str
    rank: int


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors with these names are adapters: low-rank ones, or others that `layers_of` refuses."""
    marks = (*PAIRS, *PAIRS.values(), *OTHER_KINDS)
    return any(mark in name for name in names for mark in marks)


def file_in(folder: Path) -> Path | None:
    """The file of adapters in a folder; None if there is none. Raises ValueError if the folder has other models too."""
    found = [folder / name for name in FOLDER if (folder / name).is_file()]
    others = [folder / name for name in ("model_index.json", "config.json") if (folder / name).is_file()]
    if found and len(found + others) > 1:
        names = " and ".join(file.name for file in (*found, *others))
        raise ValueError(f"{folder} has {names}, which are two models; give the path of one of them")
    return found[0] if found else None


def settings_file(file: Path) -> Path | None:
    """The file with peft's settings beside a file of adapters that has peft's name; None if there is none."""
    beside = file.parent / SETTINGS
    return beside if file.name in FOLDER and beside.is_file() else None


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
    found: dict[tuple[str, str], Layer] = {}
    for name, down in tensors.items():
        if (parts := FIRST.fullmatch(name)) is None:
            continue
        start, kind, end = parts.groups()
        second, stem = start + PAIRS[kind] + end, start[:-1]
        up = tensors.get(second)
        part, layer = _layer(where, stem, modules)
        weight = modules[part][layer]
        if up is None:
            raise TensorMismatch(f"{where}: {name} has no second factor ({PAIRS[kind]})")
        if (
            (up.shape[:1], down.shape[1:2]) != (weight.shape[:1], weight.shape[1:2])
            or up.shape[1] != down.shape[0]
            or not down.shape[0]
        ):
            raise TensorMismatch(
                f"{where}: {stem} has factors of shapes {tuple(up.shape)} and {tuple(down.shape)}; the layer {layer} "
                f"of the backbone has weights of shape {tuple(weight.shape)}"
            )
        if (part, layer) in found:
            raise TensorMismatch(
                f"{where} has two adapters of the layer {layer}: {found[part, layer].factors[0]} and {name}; give a "
                "file with one of them"
            )
        found[part, layer] = Layer(part, layer, (name, second), f"{stem}.alpha", down.shape[0])
    known = {name for layer in found.values() for name in (*layer.factors, layer.alpha)}
    if unknown := [name for name in tensors if name not in known]:
        raise TensorMismatch(
            f"{where}: the tensor {unknown[0]} is no part of an adapter with two factors, such as lora_down and lora_up"
        )
    if wrong := [
        layer.alpha for layer in found.values() if layer.alpha in tensors and tensors[layer.alpha].numel() != 1
    ]:
        raise TensorMismatch(f"{where}: {wrong[0]} must be one number")
    return list(found.values())


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
    plain = stem.replace(".processor.", ".")  # attention processors, in which older versions of diffusers had adapters
    for prefix, part in PREFIXES:
        name = plain.removeprefix(prefix)
        name = name.removeprefix(folder_check.WRAPPER) if part == "text_encoder" else name
        for candidate in (name, f"{name}.0"):  # a processor's "to_out" is the layer "to_out.0"
            if plain.startswith(prefix) and candidate in modules[part]:
                return part, candidate
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
    state: dict[str, torch.Tensor] = {}
    changing: set[Layer] = set()
    for layer in layers:
        down, up = (tensors[name].float() for name in layer.factors)
        alpha = tensors.get(layer.alpha)
        up = up if alpha is None else up * (float(alpha) / layer.rank)
        if down.count_nonzero() and up.count_nonzero():
            changing.add(layer)
            stem = f"{layer.network}.{layer.name}"
            state |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    own = {
        layer: networks[layer.network].state_dict()[f"{layer.name}.weight"].detach().clone().contiguous()
        for layer in layers
    }
    if state:
        with _quiet():
            model.load_lora_weights(state)
            model.fuse_lora()
            model.unload_lora_weights()
    changed: dict[str, torch.Tensor] = {}
    for layer, weight in own.items():
        now = networks[layer.network].state_dict()[f"{layer.name}.weight"]
        if layer in changing and torch.equal(now, weight):
            raise TensorMismatch(f"{where}: diffusers did not add the adapter of the layer {layer.name} to its weights")
        prefix = pipeline.TEXT if layer.network == "text_encoder" else ""
        changed[f"{prefix}{layer.name}.weight"] = now.detach().clone().contiguous()
    return changed


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' message that a file has adapters for only one network."""
    from diffusers.utils import logging as messages

    before = messages.get_verbosity()
    messages.set_verbosity_error()
    try:
        yield
    finally:
        messages.set_verbosity(before)


def scaled(file: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file of adapters, where second factors are multiplied by alpha / rank of peft's settings.

    peft writes its settings beside the file, and diffusers into the file. Adapters without an alpha have a factor of 1.
    With `use_rslora` the factor is alpha / sqrt(rank). Raises ValueError for settings of another kind of adapter.
    """
    settings = _settings(file)
    return {name: tensor * _factor(file, settings, name, tensor) for name, tensor in tensors.items()}


def _settings(file: Path) -> dict[str, Any]:
    """peft's settings of a file of adapters; {} without any. diffusers puts the network before each name."""
    if (beside := settings_file(file)) is not None:
        return read_json(beside)
    stored = tensor_check.metadata(file).get(METADATA) if tensor_check.is_safetensors(file) else None
    try:
        settings = json.loads(stored) if stored else {}
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"{file} is damaged: its metadata {METADATA} must be a JSON object")
    return settings


def _factor(file: Path, settings: Mapping[str, Any], name: str, tensor: torch.Tensor) -> float:
    """What a tensor of the file is multiplied by: 1, except for second factors of which peft's settings know."""
    found = SECOND.fullmatch(name)
    if not settings or not found or found[2] == "lora_up":  # kohya's files have alphas of their own
        return 1.0
    network = next((part for part in ("unet.", "text_encoder.") if f"{part}lora_alpha" in settings), "")
    network = next((part for part in ("unet.", "text_encoder.") if name.startswith(part)), network)
    own = {key.removeprefix(network): value for key, value in settings.items() if key.startswith(network)} or settings
    if (kind := own.get("peft_type") or "LORA") != "LORA" or own.get("use_dora"):
        raise ValueError(f"{file} has adapters of another kind than LoRA ({kind if kind != 'LORA' else 'DoRA'})")
    layer = found[1][:-1].removeprefix("base_model.model.").removeprefix(network)
    patterns = own.get("alpha_pattern") or {}  # expressions for the end of a layer's name, as peft reads them
    fits = (value for key, value in patterns.items() if re.fullmatch(rf"(.*\.)?({key.removeprefix('^')})", layer))
    alpha = next(fits, own.get("lora_alpha"))
    if not isinstance(alpha, int | float):
        raise ValueError(f"{file}: lora_alpha in its settings must be a number, not {alpha!r}")
    return float(alpha / tensor.shape[1] ** (0.5 if own.get("use_rslora") else 1.0))
