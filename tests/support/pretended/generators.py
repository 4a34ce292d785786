"""Generators of random numbers: one of the device draws for tensors of the device, and for no others."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from support.pretended.devices import CPU, CUDA, is_cuda

Plain = torch.Generator
_on_device: set[int] = set()  # addresses of the C++ objects: an operation gets another Python object for one of them


class _Kind(type(Plain)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Plain)


class Generator(Plain, metaclass=_Kind):  # type: ignore[misc]
    """`torch.Generator` within a block. A generator of the device draws the same numbers as one of the CPU."""

    def __new__(cls, device: Any = None) -> Generator:
        made: Generator = Plain.__new__(cls, CPU)
        if is_cuda(device):
            _on_device.add(made._cdata)
            weakref.finalize(made, _on_device.discard, made._cdata)
        return made

    def __init__(self, device: Any = None) -> None: ...

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return device_of(self)


def device_of(generator: torch.Generator) -> torch.device:
    """The device of a generator."""
    return CUDA if generator._cdata in _on_device else CPU
