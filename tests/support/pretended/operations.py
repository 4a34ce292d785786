"""Carries out one operation: checks it by the rules of a GPU, counts it, and computes it on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from support.pretended import schemas
from support.pretended.devices import CPU, is_cuda, state
from support.pretended.rules import require_allowed, require_generator
from support.pretended.schemas import COPIES, INDEXED, NO_KERNEL, WAITING, aten

FLAT = "bitsandbytes"  # library whose kernels for CUDA get addresses and see no strides


def run(func: Any, args: Any, kwargs: Any, wrap: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The result of an operation, on the device if an argument is there or if it is to be made there.

    Args:
        func: the operation, as `__torch_dispatch__` gets it.
        args, kwargs: its arguments.
        wrap: makes a tensor on the device from a result. It is called without autograd.

    Raises RuntimeError for what a GPU refuses.
    """
    tensors = schemas.tensors_in((*args, *kwargs.values()))
    there, asked = any(tensor.is_cuda for tensor in tensors), kwargs.get("device")
    # C++ code may pass on the device that it takes the tensors to be on: the CPU, where "cuda" was meant
    ambient = is_cuda(state.ambient) and (there or schemas.takes_device(func))
    to_device = is_cuda(asked) or ambient or (asked is None and there)
    if (generator := kwargs.get("generator")) is not None:
        require_generator(generator, there or to_device)
    if not there and not to_device:
        return _on_cpu(func, args, kwargs)
    if there:
        require_allowed(func, args, kwargs, [tensor for tensor in tensors if not tensor.is_cuda])
    if torch.Tag.inplace_view in func.tags and func is not aten.set_.source_Tensor:
        raise NotImplementedError(f"{func} changes the shape of a pretended tensor in place")
    _count(func, args, kwargs, tensors, to_device)
    with outside_of_autograd():
        real = [_unwrapped(argument) for argument in args]
        named = {name: _unwrapped(argument) for name, argument in kwargs.items()}
        if asked is not None:
            named["device"] = CPU
        if func.namespace == FLAT:
            real = [
                one.as_strided((one.numel(),), (1,)) if isinstance(given, torch.Tensor) and given.is_cuda else one
                for one, given in zip(real, args, strict=True)
            ]
        out = func(*real, **named)
        if func is aten.native_group_norm.default:  # the kernel of CUDA knows one layout
            out = (out[0].contiguous(), *out[1:])
        written = schemas.written(func)
        if to_device and not written:
            out = (
                pytree.tree_map_only(torch.Tensor, wrap, out) if isinstance(out, (tuple, list)) else _wrapped(out, wrap)
            )
    if not written:
        return out
    given = schemas.named(func, args, kwargs)
    if func is aten.copy_.default and not given["self"].is_cuda and _is_asynchronous(given):
        state.account.fly(given["self"])  # type: ignore[union-attr]
    if len(func._schema.returns) == 1:
        return given[written[0][1]]
    out = list(out)
    for i, name in written:
        out[i] = given[name]
    return tuple(out)


@contextlib.contextmanager
def outside_of_autograd() -> Iterator[None]:
    """Within the block, operations see only the CPU's tensors: no gradients, no inference tensors, no subclasses."""
    before, state.ambient = state.ambient, None
    try:
        with torch._C.DisableTorchFunctionSubclass(), torch._C._DisableTorchDispatch(), torch._C._InferenceMode(False):
            torch._C._set_grad_enabled(False)  # leaving inference mode has switched them on, until the block ends
            yield
    finally:
        state.ambient = before


def _on_cpu(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation that has nothing to do with the device, and that may ask for pinned memory."""
    if not kwargs.get("pin_memory"):
        return func(*args, **kwargs)
    made = func(*args, **{**kwargs, "pin_memory": False})
    if state.account is not None:
        state.account.pin(made)
    return made


def _unwrapped(argument: Any) -> Any:
    """The argument with the CPU's tensors in the same memory in place of those of the device."""
    if isinstance(argument, torch.Tensor):
        return argument.unwrapped() if argument.is_cuda else argument  # type: ignore[attr-defined]
    if isinstance(argument, (list, tuple)):
        return [_unwrapped(each) for each in argument]
    return argument


def _wrapped(result: Any, wrap: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return wrap(result) if isinstance(result, torch.Tensor) else result


def _count(func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor], to_device: bool) -> None:
    account = state.account
    if account is None:
        return
    there = [tensor for tensor in tensors if tensor.is_cuda]
    if func in COPIES and (bool(there) != to_device or 0 < len(there) < len(tensors)):
        if not _is_asynchronous(schemas.named(func, args, kwargs)):
            account.wait(func.__name__)
    elif (there and func in WAITING) or (func in INDEXED and _has_mask(args)):
        account.wait(func.__name__.partition(".")[0])
    if not schemas.is_view(func) and func not in NO_KERNEL:
        account.launches[schemas.label(func)] += 1


def _is_asynchronous(given: dict[str, Any]) -> bool:
    """Whether a copy between the devices returns before it is done.

    A copy to the CPU does so only if its destination is in pinned memory.
    """
    destination = given["self"]
    if not given.get("non_blocking"):
        return False
    to_cpu = isinstance(destination, torch.Tensor) and not destination.is_cuda and "src" in given
    return not to_cpu or (state.account is not None and state.account.is_pinned(destination))


def _has_mask(args: Any) -> bool:
    """Whether an index is a mask on the device: the host needs the number of its entries."""
    return any(index.is_cuda and index.dtype in (torch.bool, torch.uint8) for index in args[1] if index is not None)
