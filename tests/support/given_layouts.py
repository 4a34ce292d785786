"""Weights of a finished model in every published layout, each written as its tool writes it."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save, save_file

from bench.backbones.given import compvis

Tensors = dict[str, torch.Tensor]


def original(whole: Tensors, prefix: str = compvis.PREFIX) -> Tensors:
    """A state with the names of Stable Diffusion's authors."""
    names = {new: old for old, new in compvis.unet_names(whole, layers=1).items()}
    return {prefix + names[name]: tensor for name, tensor in whole.items()}


def written(tensors: object, file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in tensors.items()}, file)  # type: ignore[attr-defined]
    elif file.suffix == ".xz":
        file.write_bytes(lzma.compress(save({n: t.contiguous() for n, t in tensors.items()})))  # type: ignore[attr-defined]
    else:
        torch.save(tensors, file)
    return file


LAYOUTS: dict[str, Callable[[Tensors, Tensors, Path], Path]] = {
    "partial safetensors (ESD, UCE)": lambda some, whole, at: written(some, at / "esd.safetensors"),
    "partial in bfloat16": lambda some, whole, at: written({n: t.bfloat16() for n, t in some.items()}, at / "m.pt"),
    "partial with a prefix": lambda some, whole, at: written({f"unet.{n}": t for n, t in some.items()}, at / "m.pt"),
    "whole .pt (UnlearnDiffAtk)": lambda some, whole, at: written(whole, at / "unet.pt"),
    "several GPUs": lambda some, whole, at: written({f"module.{n}": t for n, t in whole.items()}, at / "unet.pth"),
    "state_dict": lambda some, whole, at: written({"state_dict": some, "epoch": 3}, at / "unet.bin"),
    "unet (Concept Ablation, DoCo)": lambda some, whole, at: written(
        {"unet": some, "modifier_token": "<new1>"}, at / "delta.bin"
    ),
    "CompVis whole .ckpt": lambda some, whole, at: written({"state_dict": original(whole)}, at / "m.ckpt"),
    "CompVis partial (delta_*.ckpt)": lambda some, whole, at: written({"state_dict": original(some)}, at / "d.ckpt"),
    "CompVis bare (SalUn)": lambda some, whole, at: written(original(whole, ""), at / "salun.pt"),
    "a wrong ending": lambda some, whole, at: written(some, at / "m.safetensors").rename(at / "m.bin"),
    "a loop's checkpoint": lambda some, whole, at: written({"model_state_dict": some, "epoch": 3}, at / "m.pt"),
    "unet of several GPUs": lambda some, whole, at: written(
        {"state_dict": {"unet": {f"module.{n}": t for n, t in some.items()}}}, at / "m.pt"
    ),
    "compiled": lambda some, whole, at: written({f"module._orig_mod.{n}": t for n, t in some.items()}, at / "m.pt"),
    "compressed": lambda some, whole, at: written(some, at / "m.safetensors.xz"),
}  # fmt: skip
