"""Times two implementations alternately, and compares them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Seconds = tuple[float, ...]  # one for each round


@dataclass(frozen=True)
class Line:
    """One figure of the table.

    Args:
        row: the name for `--only`.
        what: description of the figure.
        values: one value per round. The table has their median, minimum and maximum.
        unit: "x" for a ratio, or "s".
        goal: the bound for the median; None without a bound.
        at_most: whether `goal` is an upper bound.
        note: the times that the figure was computed from.
    """

    row: str
    what: str
    values: tuple[float, ...]
    unit: str = "x"
    goal: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the goal; None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def texts(self) -> tuple[str, str, str, str, str]:
        """The texts of the table: row, description, figure with its spread, goal, note."""
        few = len(self.values) < 2
        spread = "" if few else f" ({min(self.values):.2f}..{max(self.values):.2f})"
        goal = "" if self.goal is None else f"{'<=' if self.at_most else '>='} {self.goal:g} {self.unit}"
        missed = " missed" if self.met is False else ""
        return self.row, self.what, f"{self.value:.2f} {self.unit}{spread}", goal + missed, self.note


def by_turns(a: Callable[[], float], b: Callable[[], float], rounds: int) -> tuple[Seconds, Seconds]:
    """The seconds that `a` and `b` return, in `rounds` rounds in the order ABBA..., after one warm-up of each.

    Times of one round are close together, so a ratio is taken within a round, where the load of the machine is similar.
    """
    a(), b()
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            taken[side].append((a, b)[side]())
    return tuple(taken[0]), tuple(taken[1])


def ratios(over: Seconds, under: Seconds) -> tuple[float, ...]:
    """The ratio of each round."""
    return tuple(o / u for o, u in zip(over, under, strict=True))


def milliseconds(seconds: Sequence[float]) -> str:
    """The median in milliseconds, for a note."""
    return f"{1000 * statistics.median(seconds):.1f} ms"


def clock() -> float:
    """`time.perf_counter`, read when the CUDA device has finished all that this process gave it to do.

    A call that computes on CUDA returns when its kernels are launched, so a clock that does not wait times launches.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call, in seconds, until the device has finished."""
    began = clock()
    work()
    return clock() - began


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(dtype: torch.dtype) -> str:
    """A description of the machine, with the load of other processes."""
    load = f", load before {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads, name = torch.get_num_threads(), str(dtype).removeprefix("torch.")
    return f"{cores()} cores, {threads} torch threads, {name}, torch {torch.__version__}{load}"
