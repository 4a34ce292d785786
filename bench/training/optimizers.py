"""The optimisers by name, and their state as plain tensors and numbers, for checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

Number = int | float

PLAIN = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
EIGHT_BIT = {"adam8bit": "Adam8bit", "adamw8bit": "AdamW8bit"}  # of bitsandbytes: Dettmers et al. 2022, 2110.02861
NAMES = (*PLAIN, *EIGHT_BIT)
LIBRARY = "bitsandbytes"


def require(name: str) -> None:
    """Raises ValueError for a name that is not one of NAMES, or one whose library is not installed."""
    if name not in NAMES:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(NAMES)}")
    if name in EIGHT_BIT and find_spec(LIBRARY) is None:
        raise ValueError(f"optimizer {name!r} needs {LIBRARY}: pip install -c constraints.txt -e '.[8bit]'")


def libraries(name: str) -> dict[str, str]:
    """Versions of what the optimiser needs besides torch: other weights come of other versions."""
    return {LIBRARY: version(LIBRARY)} if name in EIGHT_BIT else {}


def build(
    name: str, parameters: Sequence[torch.nn.Parameter], lr: float, weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser called `name`.

    The 8-bit ones keep both moments of a parameter of 4096 or more values in a byte each, and those of a smaller one
    in fp32; they run on the CPU too.
    """
    if name in PLAIN:
        return PLAIN[name](parameters, lr=lr, weight_decay=weight_decay, fused=device.type == "cuda")
    import bitsandbytes  # an extra, and slow to import

    made: torch.optim.Optimizer = getattr(bitsandbytes.optim, EIGHT_BIT[name])(
        parameters, lr=lr, weight_decay=weight_decay
    )
    return made


def state_of(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Number]]:
    """The state of each parameter: its tensors and its numbers, under "index/name"; nested names have more slashes."""
    every = dict(_flat(optimizer.state_dict()["state"]))
    tensors = {name: value.clone() for name, value in every.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in every.items() if name not in tensors}


def restore(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    numbers: Mapping[str, Number],
) -> None:
    """Put back what `state_of` gave, in the order of `parameters`."""
    state: dict[Any, Any] = {}
    for name, value in {**tensors, **numbers}.items():
        first, *rest = name.split("/")
        parameter = parameters[int(first)]
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            # laid out in memory as the parameter, which fused optimisers insist on
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        within = state.setdefault(int(first), {})
        for part in rest[:-1]:
            within = within.setdefault(part, {})
        within[rest[-1]] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _flat(nested: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
