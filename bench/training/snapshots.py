"""Weights along a training, kept as it passes them: what a curve of forgetting against retention is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Snapshots:
    """Weights at the ends of equal parts of a training; those of the last part are the training's result, not kept.

    Args:
        parts: how many, at least 2.
        keep: told (k, changed tensors on the CPU) after the k-th part, 1 <= k < parts. Of a method that trains more
            than once the parts of the last training are told last.
    """

    parts: int
    keep: Callable[[int, dict[str, torch.Tensor]], None]

    def passed(self, done: int, steps: int) -> range:
        """The parts that end with step `done` of `steps`: none, one, or several where steps are fewer than parts."""
        return range((done - 1) * self.parts // steps + 1, min(done * self.parts // steps, self.parts - 1) + 1)
