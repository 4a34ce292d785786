"""The rules of a GPU: which operations it refuses, with the errors of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from support.pretended.generators import device_of
from support.pretended.schemas import FUSED, INDEXED, MIXING, mutated, named, tensors_in


def require_allowed(func: Any, args: Any, kwargs: Any, on_cpu: Sequence[torch.Tensor]) -> None:
    """Raises RuntimeError for an operation that a GPU refuses.

    Args:
        func, args, kwargs: an operation with at least one argument on the device.
        on_cpu: its arguments that are on the CPU.
    """
    if func in FUSED:
        _require_one_layout(func, args, kwargs)
    if not on_cpu or func in MIXING:
        return
    if func in INDEXED:
        _require_indices(func, args, on_cpu)
        return
    if any(tensor.dim() for tensor in on_cpu):
        raise two_devices(func)
    given = named(func, args, kwargs)
    if any(not tensor.is_cuda for name in mutated(func) for tensor in tensors_in(given.get(name))):
        raise two_devices(func)


def require_generator(generator: torch.Generator, on_device: bool) -> None:
    """Raises RuntimeError unless the generator is on the device of the random numbers."""
    wanted, found = ("cuda" if on_device else "cpu"), device_of(generator).type
    if wanted != found:
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")


def two_devices(func: Any) -> RuntimeError:
    """The error for an operation on tensors of both devices."""
    return RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (in {func})"
    )


def _require_indices(func: Any, args: Any, on_cpu: Sequence[torch.Tensor]) -> None:
    """Indices may be on the CPU. The values to store must be where the indexed tensor is, unless they are a number."""
    indexed, indices, rest = args[0], [i for i in args[1] if i is not None], tensors_in(args[2:])
    if not indexed.is_cuda:
        if any(index.is_cuda for index in indices):
            raise RuntimeError(f"{func}: indices should be on the device of the indexed tensor, cpu, and found cuda:0")
        if any(value.is_cuda and value.dim() for value in rest):
            raise two_devices(func)
    elif any(not value.is_cuda and value.dim() for value in rest):
        raise two_devices(func)


def _require_one_layout(func: Any, args: Any, kwargs: Any) -> None:
    """Fused Adam reads weights, gradients and moments by address, so that all must have one layout."""
    given = named(func, args, kwargs)
    lists = [given[name] for name in ("self", "grads", "exp_avgs", "exp_avg_sqs")]
    if not all(tensor.is_cuda for part in (*lists, given["state_steps"]) for tensor in part):
        raise two_devices(func)
    for first, *others in zip(*lists, strict=True):
        for other in others:
            if _layout(first) != _layout(other) or first.dtype != other.dtype or first.shape != other.shape:
                raise RuntimeError("params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, and layout")


def _layout(tensor: torch.Tensor) -> list[int]:
    """The strides, without those of dimensions that have one entry."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]
