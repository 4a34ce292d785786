"""Low-rank adapters on a U-Net's attention (LoRA, Hu et al., 2022), built by `peft` and removed after a block."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the four projections of every attention, as diffusers names them
ADAPTER = "default"  # the name that peft gives to the first adapter


@contextmanager
def adapted(
    unet: UNet2DConditionModel,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = TARGETS,
    *,
    seed: int,
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Within the block, the U-Net's target layers compute W x + (alpha / rank) B A x.

    A is initialised with Kaiming-uniform values and B with zeros, so that the adapted U-Net starts with the predictions
    of the original one. The values of A depend only on `seed`, and global random generators do not change. After the
    block, the U-Net has its original module objects, weights and `requires_grad` flags again.

    Args:
        unet: the U-Net.
        rank: rank of the product B A, at least 1.
        alpha: numerator of the factor; None for `rank`, so that the factor is 1.
        targets: names of the linear layers that get an adapter, or ends of names that begin after a dot.
        seed: seed of A.

    Yields the parameters of the adapters by their names in the adapted U-Net, float32 on the U-Net's device. No other
    parameter has a gradient. Raises ValueError for a rank below 1, for a U-Net that already has adapters, and for a
    target that matches no linear layer.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports bitsandbytes if it is installed
    from peft import LoraConfig, inject_adapter_in_model  # this import takes seconds, and most runs do not need it

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
    """The weights W + (alpha / rank) B A of each adapted layer, by the name of W in the original U-Net's state dict.

    They are float32, contiguous and on the CPU. The product is computed on the CPU, because CUDA may use TF32. Raises
    ValueError outside the block of `adapted`.
    """
    layers = _layers(unet)
    if not layers:
        raise ValueError("this U-Net has no adapters: call merged within the block of bench.backbones.lora.adapted")
    weights = {}
    for name, layer in layers.items():
        weight, down, up = (
            tensor.detach().cpu().float()
            for tensor in (layer.base_layer.weight, layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        )
        weights[f"{name}.weight"] = torch.add(weight, up @ down, alpha=layer.scaling[ADAPTER]).contiguous()
    return weights


def _layers(unet: torch.nn.Module) -> dict[str, Any]:
    """The layers with an adapter (peft's LoraLayer), by their names in the original U-Net."""
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
    """The last part of a layer's name that is not a number, and the numbers after it: "to_out.0", "proj"."""
    parts = name.split(".")
    start = len(parts) - 1
    while start and parts[start].isdigit():
        start -= 1
    return ".".join(parts[start:])
