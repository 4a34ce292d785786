"""Autocast of CUDA: the CPU's, with CUDA's list of the operations that run in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils import _pytree as pytree

from support.pretended.schemas import aten, tensors_in

LOW = (torch.bfloat16, torch.float16)

# ATen/autocast_mode.h of torch 2.14: what CUDA computes in float32 and the CPU does not
IN_FLOAT32 = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh",
    "tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm",
    "rms_norm", "group_norm", "cosine_similarity", "kl_div", "l1_loss", "dist", "logsumexp",
    "upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_nearest2d", "_upsample_nearest_exact2d",
    "upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
    "_upsample_bilinear2d_aa", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bicubic2d_aa",
    # the kernels of CUDA take a dtype for these; the effect is the same
    "softmax.int", "log_softmax.int", "cumprod", "cumsum", "sum", "sum.dim_IntList", "linalg_vector_norm",
)  # fmt: skip


class Autocast(torch.autocast):
    """The CPU's autocast in place of CUDA's: it casts the same operations to few bits."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextlib.contextmanager
def of_cuda() -> Iterator[None]:
    """Within the block, `torch.autocast("cuda")` is there, and casts tensors on the device by CUDA's lists."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name in IN_FLOAT32:
            packet, _, overload = name.partition(".")
            library.impl((op := getattr(getattr(aten, packet), overload or "default")), _in_float32(op), "AutocastCPU")
        with contextlib.ExitStack() as stack:
            for place in (torch, torch.amp, torch.amp.autocast_mode):
                stack.enter_context(mock.patch.object(place, "autocast", Autocast))
            for name in ("is_autocast_enabled", "get_autocast_dtype"):
                stack.enter_context(mock.patch.object(torch, name, _of_either(getattr(torch, name))))
            yield
    finally:
        library._destroy()


def _of_either(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda device_type="cuda", *rest: original("cpu" if device_type == "cuda" else device_type, *rest)


def _in_float32(op: Any) -> Callable[..., Any]:
    away = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def called(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(away):
            if any(tensor.is_cuda for tensor in tensors_in((args, kwargs))):
                args, kwargs = pytree.tree_map_only(
                    torch.Tensor, lambda t: t.float() if t.dtype in LOW else t, (args, kwargs)
                )
            return op(*args, **kwargs)

    return called
