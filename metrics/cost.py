"""The cost of unlearning one task. The harness counts it while the method runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metrics.column import Column

if TYPE_CHECKING:
    from bench.core.results import CellResult


@dataclass(frozen=True)
class Cost:
    """One quantity that is counted for every cell. It is at least 0, less is better.

    Args:
        name: name of the column.
        about: description of the quantity.
        unit: unit of the column.
        section: the part of a result that holds the quantity: "cost" (use of the machine) or "data" (training data;
            each image or prompt is counted once).
    """

    name: str
    about: str
    unit: str
    section: Literal["cost", "data"]

    @property
    def column(self) -> Column:
        """How the counts are shown."""
        digits = 1 if self.unit == "bytes" else 0  # bytes are shown in MB
        return Column(self.name, self.about, self.unit, "lower", digits, headline=self.name == "seconds")

    def of(self, result: CellResult) -> float | int | None:
        """The count of a finished cell.

        Returns None if the weights were given and not trained here, so that only their size is known. Raises KeyError
        if the result lacks the count.
        """
        given = not result.data  # an oracle's cost is unknown, except for the size of its weights
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
