"""Named tensors with one thing wrong, for tests of what reads files of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

Tensors = dict[str, torch.Tensor]


def _spoilt(value: float) -> Callable[[Tensors, str], str]:
    def spoil(tensors: Tensors, name: str) -> str:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[-1] = value
        return name

    return spoil


def _removed(tensors: Tensors, name: str) -> str:
    del tensors[name]
    return name


def _renamed(tensors: Tensors, name: str) -> str:
    tensors[f"{name}_x"] = tensors.pop(name)
    return f"{name}_x"


def _resized(tensors: Tensors, name: str) -> str:
    tensors[name] = torch.cat([tensors[name]] * 2)
    return name


def _added(tensors: Tensors, name: str) -> str:
    first = name.split(".")[0]
    tensors[f"{first}.extra.weight"] = torch.zeros(3)
    return f"{first}.extra.weight"


def _rounded(tensors: Tensors, name: str) -> str:
    tensors[name] = tensors[name].to(torch.int8)
    return name


KINDS: dict[str, Callable[[Tensors, str], str]] = {
    "removed": _removed,
    "renamed": _renamed,
    "resized": _resized,
    "added": _added,
    "rounded": _rounded,
    "nan": _spoilt(float("nan")),
    "inf": _spoilt(float("inf")),
    "-inf": _spoilt(float("-inf")),
}


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: its kind, and which tensor has it, as a share of all tensors."""

    kind: str
    share: float

    def apply(self, tensors: Mapping[str, torch.Tensor]) -> tuple[Tensors, str]:
        """A damaged copy of `tensors`, and the name of a tensor that an error has to contain."""
        changed = dict(tensors)
        names = sorted(name for name in changed if changed[name].is_floating_point())
        name = names[int(self.share * (len(names) - 1))]
        return changed, KINDS[self.kind](changed, name)


damages = st.builds(Damage, st.sampled_from(sorted(KINDS)), st.floats(0, 1))
