"""Keeps the weights at several points of a training, for a curve of retention against forgetting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Snapshots:
    """Divides a training into equal parts and receives the weights at the end of each part except the last.

    The weights at the end of the last part are the result of the training. They are therefore not kept here.

    Args:
        parts: number of parts, at least 2.
        keep: function that is called after the k-th part, 1 <= k < parts. Its arguments are k, the changed tensors, and
            the tensors that `Method.attach` needs (name -> tensor on the CPU). If a method trains more than once, the
            calls for its last training come last.
    """

    parts: int
    keep: Callable[[int, dict[str, torch.Tensor], dict[str, torch.Tensor]], None]

    def passed(self, done: int, steps: int) -> range:
        """The numbers of the parts that end with optimiser step `done`, without the last part.

        Usually the range is empty or has one number. It has several numbers only if the training has fewer steps than
        parts.

        Args:
            done: number of steps that are done, from 1.
            steps: total number of steps of the training.

        Example:
            >>> snapshots = Snapshots(parts=4, keep=lambda part, tensors, attached: None)
            >>> [list(snapshots.passed(done, steps=8)) for done in range(1, 9)]
            [[], [1], [], [2], [], [3], [], []]
        """
        return range((done - 1) * self.parts // steps + 1, min(done * self.parts // steps, self.parts - 1) + 1)
