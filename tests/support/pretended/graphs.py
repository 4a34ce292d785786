"""Compiled code and CUDA graphs: what the pretended device recognises and can't run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch


class NotDrivable(RuntimeError):
    """The code asks for something that only a GPU can show; switch it off to drive the rest."""


def refused(what: str) -> Callable[..., Any]:
    """A function that raises NotDrivable for `what`."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotDrivable(f"the pretended CUDA device can't run {what}: switch it off, or run this on a GPU")

    return refuse


def _compiled(model: Any = None, **options: Any) -> Any:
    """`torch.compile`: what it returns raises when it is called, as libraries compile functions that nobody calls."""
    return refused("torch.compile") if model is not None else lambda function: refused("torch.compile")


class _Graph:
    """`torch.cuda.CUDAGraph`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refused("CUDA graphs")()


def patches() -> Iterator[Any]:
    """What stands in the place of torch's compilers and graphs."""
    yield mock.patch.object(torch, "compile", _compiled)
    yield mock.patch.object(torch.nn.Module, "compile", refused("torch.compile"))
    for name in ("graph", "make_graphed_callables"):
        yield mock.patch.object(torch.cuda, name, refused("CUDA graphs"))
    yield mock.patch.object(torch.cuda, "CUDAGraph", _Graph)
    yield mock.patch.object(torch.cuda, "is_current_stream_capturing", return_value=False)
