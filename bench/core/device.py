"""The device, the precision and the library versions of a computation. If they differ, results differ by rounding."""

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
    """A description of the machine for cache keys and fingerprints: "device", "dtype" and "versions".

    "dtype" is the dtype of forward passes, with a suffix where weights have it too, and one for compiled code. In
    earlier versions, whose suffix was " compiled", rounding depended on what a process had computed before. Gradient
    checkpointing computes the same activations twice and changes no result, so it is left out. But it changes which
    code is compiled together, so it is part of the description of compiled code.
    """
    dtype = compute_dtype(device, precision)
    how = " weights" * casts_weights(device, dtype)
    how += " compiled by shape" * compile + " checkpointed" * (compile and gradient_checkpointing)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(dtype) + how,
        "versions": {name: version(name) for name in PACKAGES},
    }


def default_device() -> torch.device:
    """The CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """The dtype that `precision`, one of `bench.core.config.PRECISIONS`, stands for on `device`.

    "auto" stands for bfloat16 if the hardware multiplies bfloat16 natively, otherwise for float32.
    """
    fast = torch.bfloat16 if multiplies_bf16(device) else torch.float32
    return {"auto": fast, "fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively: CUDA from Ampere on, and CPUs with AMX or AVX-512 BF16.

    Older cards, such as T4, V100 and RTX 20, emulate bfloat16, which is slower than float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def casts_weights(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether passes without a gradient have weights of `dtype`, not only products: on CUDA, below float32.

    On the CPU it would be no faster, and would round differently from the boards that were computed there.
    """
    return device.type == "cuda" and dtype != torch.float32


def allow_tf32(dtype: torch.dtype) -> None:
    """Set TF32 on CUDA for this process: on, so that float32 products are faster, unless `dtype` is float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != torch.float32


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on `device`. On CUDA the copy waits in the device's queue, and the process does not wait."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def exact() -> Iterator[None]:
    """Switch TF32 off within the block, for judges."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
