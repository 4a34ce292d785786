"""TF32 on a CPU: products whose inputs are rounded as a GPU's tensor cores round them, added up in float32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

LEFT_OUT = 13  # bits that TF32 leaves out of the 23 of float32's mantissa
PRODUCTS = (F.conv2d, F.linear, torch.matmul, torch.Tensor.matmul, torch.bmm, torch.baddbmm)
ADDED = (torch.baddbmm,)  # their first argument is added to a product, and so it is not rounded


class Tf32(TorchFunctionMode):
    """Within the block, convolutions and matrix products of float32 are those of TF32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in PRODUCTS:
            first = int(function in ADDED)
            args = (*args[:first], *(rounded(a) for a in args[first : first + 2]), *args[first + 2 :])
        return function(*args, **(kwargs or {}))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Float32 values with TF32's mantissa of 10 bits, rounded to the nearest.

    Example:
        >>> rounded(torch.tensor([1 + 2**-10, 1 + 2**-12])) - 1
        tensor([0.0010, 0.0000])
    """
    bits = values.contiguous().view(torch.int32)
    return ((bits + (1 << LEFT_OUT - 1)) >> LEFT_OUT << LEFT_OUT).view(torch.float32)
