"""Low-rank adapters on a U-Net's attention (LoRA, Hu et al., 2022) for as long as a block lasts, built by `peft`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the four projections of every attention, as diffusers names them
ADAPTER = "default"  # peft's own name for the only one


@contextmanager
def adapted(
    unet: UNet2DConditionModel,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = TARGETS,
    *,
    seed: int,
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Within the block the U-Net's target layers give W x + (alpha / rank) B A x; after it the U-Net is as before.

    As before means the same module objects in the same places, with the same weights and `requires_grad` flags. A is
    Kaiming-uniform and B zero, so that the adapted U-Net starts as the plain one. A's values follow from `seed` alone,
    whatever the device, and no other random numbers are disturbed.

    Args:
        rank: of B A, at least 1.
        alpha: default `rank`, which makes the factor 1.
        targets: ends of the names of the linear layers that get an adapter, whole words between dots.
        seed: of A.

    Yields the adapters' parameters, float32 on the U-Net's device, by their names in the adapted U-Net; nothing else
    has a gradient. Raises ValueError for a rank below 1, a U-Net that is adapted already, and a target that no linear
    layer's name ends with.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it where it is installed
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import; most runs need none of it

    if rank < 1:
        raise ValueError(f"the rank of an adapter must be at least 1; found {rank}")
    if _layers(unet):
        raise ValueError("this U-Net has adapters already; leave their block before adding others")
    plain = _matching(unet, targets)
    flags = {parameter: parameter.requires_grad for parameter in unet.parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=list(plain))
    try:
        unet.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # peft draws on the CPU, then moves
            inject_adapter_in_model(config, unet, ADAPTER)
        yield {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    finally:
        for name, layer in plain.items():
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, layer)
        unet.__dict__.pop("peft_config", None)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


@torch.no_grad()
def merged(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """What each adapted layer amounts to, W + (alpha / rank) B A, by the name of W in the plain U-Net's state dict.

    Float32, contiguous, on the CPU, where matrix products are in full precision whatever CUDA is allowed. Raises
    ValueError outside the block of `adapted`.
    """
    layers = _layers(unet)
    if not layers:
        raise ValueError("this U-Net has no adapters: call merged within the block of bench.backbones.lora.adapted")
    found = {}
    for name, layer in layers.items():
        weight, down, up = (
            tensor.detach().cpu().float()
            for tensor in (layer.base_layer.weight, layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        )
        found[f"{name}.weight"] = torch.add(weight, up @ down, alpha=layer.scaling[ADAPTER]).contiguous()
    return found


def _layers(unet: torch.nn.Module) -> dict[str, Any]:
    """Layers with an adapter (peft's LoraLayer), by the name that they have without."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in unet.named_modules() if isinstance(module, LoraLayer)}


def _matching(unet: torch.nn.Module, targets: Sequence[str]) -> dict[str, torch.nn.Module]:
    linear = {name: module for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)}
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            fit = ", ".join(sorted({_end(name) for name in linear}))
            raise ValueError(f"no linear layer's name ends with {target!r}; names that fit: {fit}")
    ends = tuple(f".{target}" for target in targets)
    if not ends:
        raise ValueError("adapters need at least one target")
    return {name: layer for name, layer in linear.items() if f".{name}".endswith(ends)}


def _end(name: str) -> str:
    """The last word of a layer's name; with those before it as long as it is a number: "to_out.0", "net.0.proj"."""
    parts = name.split(".")
    start = len(parts) - 1
    while start and parts[start].isdigit():
        start -= 1
    return ".".join(parts[start:])
