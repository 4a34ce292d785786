"""What computes: device, precision, library versions. Results that differ in these differ by rounding at least."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "timm",
    "torch-fidelity",
    "open_clip_torch",
    "numpy",
    "torchvision",
    "pillow",
)


def describe(
    device: torch.device,
    precision: str,
    compile: bool = False,
    gradient_checkpointing: bool = False,
) -> dict[str, Any]:
    """Name of the device, type of forward passes and what else decides their rounding, and versions of libraries.

    Activations that are computed again are the same again, so checkpointing does not show, but where it moves the
    borders of what is compiled.
    """
    how = " compiled" * compile + " checkpointed" * (compile and gradient_checkpointing)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(compute_dtype(device, precision)) + how,
        "versions": {name: version(name) for name in PACKAGES},
    }


def default_device() -> torch.device:
    """CUDA where there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """What `precision`, one of `bench.core.config.PRECISIONS`, means on `device`.

    "auto" is bfloat16 autocast where the hardware multiplies it natively, and fp32 elsewhere.
    """
    fast = torch.bfloat16 if multiplies_bf16(device) else torch.float32
    return {"auto": fast, "fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively: CUDA, and CPUs with AMX or AVX-512 BF16."""
    cpu = device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return device.type == "cuda" or cpu


def allow_tf32(dtype: torch.dtype) -> None:
    """For this process, let CUDA round what autocast leaves in fp32 to TF32, unless fp32 is the precision asked for."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != torch.float32


@contextmanager
def exact() -> Iterator[None]:
    """Within the block fp32 is fp32 on CUDA too: for judges, and for small differences that TF32 would drown."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
