"""The functions of torch that ask C++ code for a device, and what stands in their places."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.nn.utils import clip_grad
from torch.optim import optimizer
from torch.utils import _foreach_utils
from torch.utils import _pytree as pytree

from support.pretended.account import Account
from support.pretended.devices import CPU, CUDA, NAME, is_cuda
from support.pretended.generators import Generator
from support.pretended.tensor import moved, to


def patches(account: Account) -> Iterator[Any]:
    """What stands in the place of `torch.cuda`, and of functions that choose a device before they are dispatched."""
    yield from _of_torch_cuda(account)
    yield from _of_optimisers()
    yield mock.patch.object(torch, "Generator", Generator)
    yield mock.patch.object(torch, "load", _loaded(torch.load))
    yield mock.patch.object(torch.Tensor, "to", to)
    yield mock.patch.object(torch.Tensor, "cuda", lambda self, *a, **k: moved(self, CUDA, "cuda()"))
    for name in ("tensor", "as_tensor", "asarray"):
        yield mock.patch.object(torch, name, _made_on_cpu_first(getattr(torch, name)))


def _nothing(*args: Any, **kwargs: Any) -> None: ...


def _of_torch_cuda(account: Account) -> Iterator[Any]:
    values = {
        "is_available": lambda: True, "is_initialized": lambda: True, "_lazy_init": _nothing, "init": _nothing,
        "device_count": lambda: 1, "current_device": lambda: 0, "set_device": _nothing,
        "device": lambda *a: contextlib.nullcontext(), "_exchange_device": lambda *a: 0,
        "_maybe_exchange_device": lambda *a: 0,
        "get_device_name": lambda *a: NAME, "get_device_capability": lambda *a: (9, 0),
        "is_bf16_supported": lambda *a, **k: True, "empty_cache": _nothing, "ipc_collect": _nothing,
        "max_memory_allocated": lambda *a: account.peak, "memory_allocated": lambda *a: account.now,
        "max_memory_reserved": lambda *a: account.peak, "memory_reserved": lambda *a: account.now,
        "reset_peak_memory_stats": lambda *a: setattr(account, "peak", account.now),
        "manual_seed_all": _nothing, "manual_seed": _nothing,
        "get_rng_state": lambda *a: torch.get_rng_state(), "set_rng_state": _nothing,
        "get_rng_state_all": lambda: [torch.get_rng_state()], "set_rng_state_all": _nothing,
    }  # fmt: skip
    for name, value in values.items():
        yield mock.patch.object(torch.cuda, name, value)


def _of_optimisers() -> Iterator[Any]:
    """To C++ code the tensors are the CPU's. Optimisers and clipping ask it for their device."""
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(optimizer.Optimizer, name):  # which of both depends on the version of torch
            yield mock.patch.object(optimizer.Optimizer, name, _nothing)
    grouped = _foreach_utils._group_tensors_by_device_and_dtype

    def by_device(lists: Any, *args: Any, **kwargs: Any) -> Any:
        found = grouped(lists, *args, **kwargs).items()
        return {(_device_of(lists) if d == CPU else d, dtype): held for (d, dtype), held in found}

    for place in (_foreach_utils, clip_grad, optimizer):
        yield mock.patch.object(place, "_group_tensors_by_device_and_dtype", by_device)


def _device_of(lists: Any) -> torch.device:
    held = [tensor.is_cuda for part in lists for tensor in part if tensor is not None and tensor.dim()]
    return CUDA if any(held) or not held else CPU


def _loaded(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        there = isinstance(map_location, (str, torch.device)) and is_cuda(map_location)
        found = original(file, map_location="cpu" if there else map_location, **kwargs)
        return pytree.tree_map_only(torch.Tensor, lambda t: t.to(CUDA), found) if there else found

    return load


def _made_on_cpu_first(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        out = original(*args, **kwargs) if is_cuda(device) else original(*args, device=device, **kwargs)
        return moved(out, CUDA, original.__name__) if is_cuda(device) else out

    return made
