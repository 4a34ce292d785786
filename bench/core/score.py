"""A measured figure. Metrics return it, results of cells keep it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A figure and the number of images it rests on."""

    value: float
    n: int
