"""The tensor that says it is on CUDA, and the ways to it and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.pretended import operations
from support.pretended.devices import CPU, CUDA, require_known, state, within
from support.pretended.operations import outside_of_autograd

plainly = torch._C.DisableTorchFunctionSubclass
_plain_to = torch.Tensor.to


class Pretended(torch.Tensor):
    """A tensor of the CPU that says it is on CUDA."""

    @staticmethod
    def wrap(real: torch.Tensor) -> Pretended:
        """A tensor on the device that shares the memory of `real`; call it within `outside_of_autograd`."""
        made: Pretended = torch.Tensor._make_subclass(Pretended, real)
        if state.account is not None:
            state.account.hold(real)
        return made

    def unwrapped(self) -> torch.Tensor:
        """The tensor of the CPU in the same memory; call it within `outside_of_autograd`."""
        return torch.empty(0, dtype=self.dtype).set_(  # type: ignore[call-overload, no-any-return]
            self.untyped_storage(), self.storage_offset(), self.size(), self.stride()
        )

    # what Python asks of a tensor about its device
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def type(self, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        if dtype is None:
            with plainly():
                return super().type().replace("torch.", "torch.cuda.")
        return self.to(dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype).rpartition(".")[2]))

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        with outside_of_autograd():
            return f"Pretended({self.unwrapped()!r}, requires_grad={self.requires_grad})"

    # what brings values to the CPU
    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def cpu(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return moved(self, CPU, "cpu()")

    def cuda(self, *args: Any, **kwargs: Any) -> Pretended:
        return self

    def pin_memory(self, *args: Any) -> Any:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def is_pinned(self, *args: Any) -> bool:
        return False

    def record_stream(self, stream: Any) -> None: ...

    def to(self, *args: Any, **kwargs: Any) -> Any:
        return to(self, *args, **kwargs)

    def new_tensor(self, data: Any, *args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or CUDA, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (own := _METHODS.get(func)) is not None:
            return own(*args, **kwargs)
        asked = kwargs.get("device")
        with plainly(), within(torch.device(asked) if asked is not None else CUDA):
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operations.run(func, args, kwargs or {}, cls.wrap)


class Making(TorchDispatchMode):
    """Sees the operations that make a tensor on the device and take none from there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operations.run(func, args, kwargs or {}, Pretended.wrap)


class _Move(torch.autograd.Function):
    """A copy on the other device, whose gradient goes back to the first device."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        ctx.device = tensor.device
        return _copied(tensor, device)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        return _copied(grad, ctx.device), None


def moved(tensor: torch.Tensor, device: torch.device, what: str, non_blocking: bool = False) -> torch.Tensor:
    """The tensor on `device`: itself if it is there, otherwise a copy.

    Args:
        what: the call, for the account.
        non_blocking: whether the host goes on at once. A copy on the CPU then holds garbage until the host waits.
    """
    require_known(device)
    if tensor.is_cuda == (device.type == "cuda"):
        return tensor
    if state.account is not None and not non_blocking:
        state.account.wait(what)
    if tensor.requires_grad and torch.is_grad_enabled():
        return _Move.apply(tensor, device)  # type: ignore[no-any-return]
    made = _copied(tensor, device)
    if non_blocking and state.account is not None and not made.is_cuda:
        state.account.pin(made)  # as torch does for such a copy
        state.account.fly(made)
    return made


def _copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    with outside_of_autograd():
        made = (tensor.unwrapped() if isinstance(tensor, Pretended) else tensor.detach()).clone()
        return Pretended.wrap(made) if device.type == "cuda" else made


def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to` for tensors of both devices."""
    other = kwargs.pop("other", None)
    if args and isinstance(args[0], torch.Tensor):
        other, args = args[0], args[1:]
    if other is not None:
        args = (other.device, other.dtype, *args)
    copy = kwargs.pop("copy", args[3] if len(args) > 3 else False)
    with plainly():
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args[:3], **kwargs)
    out = self
    if dtype is not None and dtype != out.dtype:  # before the move or after it: the values are the same
        with plainly(), within(out.device):
            out = _plain_to(out, dtype)
    if device is not None:
        out = moved(out, torch.device(device), f"to({device.type})", non_blocking)
    if layout is not None:
        with plainly(), within(out.device):
            out = _plain_to(out, memory_format=layout)
    return out.clone() if copy and out is self else out


_METHODS: dict[Any, Callable[..., Any]] = {  # called with a tensor of the device anywhere among their arguments
    _plain_to: to,
    torch.Tensor.type_as: lambda self, other: to(self, other),
    torch.Tensor.cpu: lambda self, *a, **k: moved(self, CPU, "cpu()"),
    torch.Tensor.cuda: lambda self, *a, **k: moved(self, CUDA, "cuda()"),
    torch.Tensor.numpy: lambda self, *a, **k: Pretended.numpy(self),
    torch.Tensor.tolist: lambda self: Pretended.tolist(self),
    torch.Tensor.get_device: lambda self: self.device.index or 0,
    torch.Tensor.device.__get__: lambda self: CUDA,
    torch.Tensor.is_cuda.__get__: lambda self: True,
    torch.Tensor.is_cpu.__get__: lambda self: False,
}
