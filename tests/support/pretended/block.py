"""The block within which there is a CUDA device."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
import torch._dynamo  # before anything is patched: at its import it makes lists of torch's functions
import torch.utils._device

from support.pretended import autocast, graphs, replaced, streams
from support.pretended.account import Account
from support.pretended.devices import state
from support.pretended.tensor import Making

HOME = Path(__file__).parents[3]


@contextlib.contextmanager
def cuda(home: Path = HOME) -> Iterator[Account]:
    """Within the block there is one CUDA device. Yields the account of its work; `home` as in `Account`.

    Blocks may not be nested. Raises RuntimeError within another block.
    """
    if state.account is not None:
        raise RuntimeError("there is a pretended CUDA device already")
    _prepare()
    account = Account(home)
    swapping = torch.__future__.get_swap_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for patch in (*graphs.patches(), *streams.patches(account), *replaced.patches(account)):
            stack.enter_context(patch)
        stack.enter_context(autocast.of_cuda())
        stack.enter_context(Making())
        torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter changes its class when it moves
        state.account = account
        try:
            yield account
        finally:
            state.account = None
            torch.__future__.set_swap_module_params_on_conversion(swapping)


def _prepare() -> None:
    """Import and compute everything that must see torch as it is."""
    torch.utils._device._device_constructors()  # lists of torch's functions, which torch makes once
    torch.overrides.get_ignored_functions()
    torch.overrides.get_testing_overrides()
    if importlib.util.find_spec("bitsandbytes") is not None:
        importlib.import_module("bitsandbytes")  # with a CUDA device it would load its library for CUDA
