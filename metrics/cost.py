"""What unlearning one task cost: not measured on images, but counted while the method worked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.core.results import CellResult


@dataclass(frozen=True)
class Cost:
    """One thing that is counted for every cell; less is better, from 0 up.

    Args:
        name: column name.
        about: what is counted.
        unit: of the column.
        section: where a result keeps it: "cost" (of the machine) or "data" (looked at, each once).
    """

    name: str
    about: str
    unit: str
    section: Literal["cost", "data"]

    def of(self, result: CellResult) -> float | int | None:
        """The count of a finished cell; None where its weights were given, and nobody counted what making them took.

        Raises KeyError if its result lacks it.
        """
        given = not result.data  # an oracle's: of what it cost, only the size of its weights is known
        if given and self.name != "delta_bytes":
            return None
        return (result.cost if self.section == "cost" else result.data)[self.name]


COSTS = (
    Cost(
        "seconds",
        "wall time of the method; drawing images to learn from, which methods share, is left out",
        "s",
        "cost",
    ),
    Cost("steps", "optimiser steps", "steps", "cost"),
    Cost("student_forwards", "forward passes of the weights being trained", "batches", "cost"),
    Cost("teacher_forwards", "forward passes of the untouched weights", "batches", "cost"),
    Cost("peak_bytes", "peak memory: allocated on CUDA, resident set of the process on the CPU", "bytes", "cost"),
    Cost("delta_bytes", "size of the changed weights", "bytes", "cost"),
    Cost("forget_images", "images of forgotten concepts that the method looked at", "images", "data"),
    Cost("retain_images", "images of retained concepts that the method looked at", "images", "data"),
    Cost("anchor_prompts", "prompts of other concepts that the method looked at", "prompts", "data"),
)
