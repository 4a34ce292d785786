"""The weights at several points of a training, for a curve of forgetting against retention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Snapshots:
    """Divides a training into equal parts and receives the weights at the end of each part but the last.

    The weights at the end of the last part are the result of the training, so they are not kept here.

    Args:
        parts: number of parts, at least 2.
        keep: called with k and the changed tensors, on the CPU, after the k-th part, 1 <= k < parts. If a method trains
            more than once, the calls for the last training come last.
    """

    parts: int
    keep: Callable[[int, dict[str, torch.Tensor]], None]

    def passed(self, done: int, steps: int) -> range:
        """The parts that end with optimiser step `done` of `steps`.

        Usually there is one part or none. There are several if the training has fewer steps than parts.

        Example:
            >>> snapshots = Snapshots(parts=4, keep=lambda part, tensors: None)
            >>> [list(snapshots.passed(done, steps=8)) for done in range(1, 9)]
            [[], [1], [], [2], [], [3], [], []]
        """
        return range((done - 1) * self.parts // steps + 1, min(done * self.parts // steps, self.parts - 1) + 1)
