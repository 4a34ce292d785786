"""Measures the memory of a computation without a GPU, by counting tensors that have a shape and no content.

Under torch's FakeTensorMode every operation is traced with shapes only. A training step of Stable Diffusion at 512 x
512 takes seconds and no memory. The count includes the memory that torch allocates, in blocks of 512 bytes. It does not
include cuDNN's workspaces, CUDA's context and the gaps of the allocator.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.backbones import finite

BLOCK = 512  # bytes; CUDA's allocator rounds up to it


class Live(TorchDispatchMode):
    """Counts the bytes of live tensors that were created within the block, now and at the peak.

    Args:
        kind: the class of the tensors to count.
    """

    def __init__(self, kind: type[torch.Tensor] = FakeTensor) -> None:
        super().__init__()
        self.kind, self.now, self.peak = kind, 0, 0
        self._known: set[int] = set()

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that existed before the block."""
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, self.kind):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@contextmanager
def cuda_precision() -> Iterator[None]:
    """Within the block, norms and softmax run in fp32 under autocast, as on CUDA. The CPU would use bfloat16."""
    places = ((F, "group_norm"), (F, "layer_norm"), (torch.Tensor, "softmax"))
    originals = [getattr(place, name) for place, name in places]

    def exact(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def called(*args: Any, **kwargs: Any) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                args = tuple(a.float() if isinstance(a, torch.Tensor) else a for a in args)
                kwargs = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
            return original(*args, **kwargs)

        return called

    try:
        for (place, name), original in zip(places, originals, strict=True):
            setattr(place, name, exact(original))
        yield
    finally:
        for (place, name), original in zip(places, originals, strict=True):
            setattr(place, name, original)


def contentless(make: Callable[[], Any]) -> tuple[Any, Live]:
    """The result of `make`, whose tensors have no content, and the count of their bytes."""
    live = Live()
    with FakeTensorMode(allow_non_fake_inputs=True), live:
        return make(), live


@contextmanager
def counted(live: Live) -> Iterator[None]:
    """Within the block, tensors computed from contentless tensors are counted. The peak restarts."""
    live.peak = live.now
    with live, cuda_precision(), unchecked_values():
        yield


@contextmanager
def unchecked_values() -> Iterator[None]:
    """Within the block, no value is checked for NaN: contentless tensors have no values."""
    original = finite.require
    try:
        finite.require = lambda *_: None
        yield
    finally:
        finite.require = original


class EightBit(torch.optim.Optimizer):
    """Allocates the memory of bitsandbytes' 8-bit Adam, whose kernels need content. It does not change the weights."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Allocate the moments: a byte per value and a float per 256 values, or floats for fewer than 4096 values."""
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                small = parameter.numel() < 4096
                kind = torch.float32 if small else torch.uint8
                scales = [] if small else [parameter.new_zeros(-(-parameter.numel() // 256)) for _ in range(2)]
                self.state[parameter] = {
                    "moments": [torch.zeros_like(parameter, dtype=kind) for _ in range(2)], "scales": scales
                }  # fmt: skip
