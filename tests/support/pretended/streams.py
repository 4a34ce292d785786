"""Streams, events and pinned memory. The device does one thing after the other, so only the waits of the host count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from support.pretended.account import Account
from support.pretended.devices import CUDA, state


class Stream:
    """`torch.cuda.Stream`."""

    device, cuda_stream = CUDA, 0

    def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> Any:
        return torch.cuda.Event() if event is None else event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _wait("Stream.synchronize")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None: ...


class Event:
    """`torch.cuda.Event`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 0.0

    def synchronize(self) -> None:
        _wait("Event.synchronize")


def _wait(what: str) -> None:
    if state.account is not None:
        state.account.wait(what)


def patches(account: Account) -> Iterator[Any]:
    """What stands in the place of torch's streams, events and pinned memory."""
    usual = Stream()
    values: dict[str, Any] = {
        "Stream": Stream, "Event": Event, "current_stream": lambda *a: usual, "default_stream": lambda *a: usual,
        "stream": contextlib.nullcontext, "set_stream": lambda stream: None,
        "synchronize": lambda *a: account.wait("synchronize"),
    }  # fmt: skip
    for name, value in values.items():
        yield mock.patch.object(torch.cuda, name, value)
    yield mock.patch.object(torch.Tensor, "pin_memory", _pinned(account))
    yield mock.patch.object(torch.Tensor, "is_pinned", lambda self, *a: account.is_pinned(self))


def _pinned(account: Account) -> Callable[..., torch.Tensor]:
    def pin_memory(self: torch.Tensor, *args: Any) -> torch.Tensor:
        if account.is_pinned(self):
            return self
        made = self.clone()
        account.pin(made)
        return made

    return pin_memory
