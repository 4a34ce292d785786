"""The optimisers by name, and their state as tensors and numbers for checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

Number = int | float

PLAIN = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
EIGHT_BIT = {
    "adam8bit": "Adam8bit",
    "adamw8bit": "AdamW8bit",
}  # classes of bitsandbytes (Dettmers et al., 2022, arXiv 2110.02861)
NAMES = (*PLAIN, *EIGHT_BIT)
LIBRARY = "bitsandbytes"


def require(name: str) -> None:
    """Raises ValueError if `name` is not one of NAMES, or if the library that it needs is not installed."""
    if name not in NAMES:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(NAMES)}")
    if name in EIGHT_BIT and find_spec(LIBRARY) is None:
        raise ValueError(f"optimizer {name!r} needs {LIBRARY}: pip install -c constraints.txt -e '.[8bit]'")


def key_parts(name: str, device: str) -> dict[str, str]:
    """Parts of a cache key: what affects the resulting weights besides torch and the settings of the optimiser.

    Args:
        device: "cpu", or another device. Earlier versions of Lethe did not make the parameters contiguous there.
    """
    if name not in EIGHT_BIT:
        return {}
    return {LIBRARY: version(LIBRARY), **({} if device == "cpu" else {"layout": "contiguous"})}


def build(
    name: str, parameters: Sequence[torch.nn.Parameter], lr: float, weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser called `name`, one of NAMES.

    Args:
        lr: learning rate.
        weight_decay: as the optimiser defines it: an L2 penalty for Adam, decoupled for AdamW.
        device: the device of the parameters. On CUDA the fused implementation is used.

    The 8-bit optimisers keep both moments of a parameter with 4096 or more values in one byte per value, and those of
    a smaller parameter in float32. They run on the CPU too. Their kernels take the values of a parameter in the order
    of its memory, in which a checkpoint keeps the moments too. So the parameters become contiguous, whatever layout
    they had, and stay so: whoever builds the optimiser puts the layout back.
    """
    if name in PLAIN:
        return PLAIN[name](parameters, lr=lr, weight_decay=weight_decay, fused=device.type == "cuda")
    for parameter in parameters:
        _make_contiguous(parameter)
    import bitsandbytes  # an extra, and slow to import

    made: torch.optim.Optimizer = getattr(bitsandbytes.optim, EIGHT_BIT[name])(
        parameters, lr=lr, weight_decay=weight_decay
    )
    return made


def state_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Number]]:
    """The state of the optimiser: its tensors and its numbers, by "parameter index/name". Nested names add slashes.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> adam = build("adam", [w], lr=0.1, weight_decay=0.0, device=torch.device("cpu"))
        >>> w.sum().backward()
        >>> adam.step()
        >>> sorted(state_of(adam)[0])
        ['0/exp_avg', '0/exp_avg_sq', '0/step']
    """
    state = dict(_flat(optimizer.state_dict()["state"]))
    tensors = {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def restore(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    numbers: Mapping[str, Number],
) -> None:
    """Restore the tensors and numbers that `state_of` returned. `parameters` are in the order of the optimiser."""
    state: dict[Any, Any] = {}
    for name, value in {**tensors, **numbers}.items():
        first, *rest = name.split("/")
        parameter = parameters[int(first)]
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            # fused optimisers require the memory layout of the parameter
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        within = state.setdefault(int(first), {})
        for part in rest[:-1]:
            within = within.setdefault(part, {})
        within[rest[-1]] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _make_contiguous(parameter: torch.nn.Parameter) -> None:
    """Lay the parameter out contiguously, within the memory that it has."""
    if not parameter.is_contiguous():
        values = parameter.detach().clone(memory_format=torch.contiguous_format)
        parameter.data = parameter.data.as_strided(values.shape, values.stride()).copy_(values)


def _flat(nested: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
