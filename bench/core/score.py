"""A measured figure. Metrics return it, results of cells keep it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """The value of a metric.

    Args:
        value: the value, in the range of its metric.
        n: number of images that it was computed from.

    Example:
        >>> Score(0.25, 8).value
        0.25
    """

    value: float
    n: int
