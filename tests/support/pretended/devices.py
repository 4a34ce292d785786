"""The two devices, and the state of the block in which one of them is pretended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from support.pretended.account import Account

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
NAME = "pretended CUDA"


class State(threading.local):
    """The state within a block of `cuda`.

    Attributes:
        account: the account of the innermost block; None outside of every block.
        ambient: the device on which an operation that is running makes its intermediate tensors; None if no operation
            runs.
    """

    account: Account | None = None
    ambient: torch.device | None = None


state = State()


def is_cuda(device: Any) -> bool:
    """Whether `device`, a device, a name, an index or None, is CUDA."""
    return device is not None and torch.device(device).type == "cuda"


def require_known(device: torch.device) -> None:
    """Raises RuntimeError for a CUDA device that does not exist: there is only one."""
    if device.type == "cuda" and (device.index or 0) != 0:
        raise RuntimeError("CUDA error: invalid device ordinal")


@contextlib.contextmanager
def within(device: torch.device) -> Iterator[None]:
    """Within the block, tensors that are made without a device are made on `device`."""
    before, state.ambient = state.ambient, device
    try:
        yield
    finally:
        state.ambient = before
