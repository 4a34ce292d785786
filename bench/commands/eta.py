"""The remaining time of a run, from the speed of its cells. Before the first cell it comes from an estimate."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.engines import Status


class Eta:
    """The estimated time of arrival of a run.

    Args:
        total: number of cells of the run.
        work: seconds that one worker needs for the cells that are not stored; None if unknown.
        clock: () -> seconds.
    """

    def __init__(self, total: int, work: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self._work, self._clock = total, work, clock
        self._begun: tuple[float, int] | None = None  # when the first worker ran, and how many cells were done by then
        self.status = Status(0, total)

    def update(self, status: Status, done: int) -> None:
        """Take note of the engine's status and of the number of finished cells."""
        self.status = status
        if status.running and self._begun is None:
            self._begun = self._clock(), done

    def remaining(self, done: int) -> float | None:
        """Remaining seconds when `done` cells are finished; None if unknown."""
        if done >= self.total:
            return 0.0
        if self._begun and done > self._begun[1]:
            return (self._clock() - self._begun[0]) / (done - self._begun[1]) * (self.total - done)
        if self._work is None or not self._begun:
            return None
        rest = self._work * (self.total - done) / (self.total - self._begun[1])
        return rest / max(1, self.status.running)

    def text(self, done: int, failed: int) -> str:
        """One line for the progress display."""
        left = self.remaining(done)
        parts = [f"{done} done", f"{self.status.running} running", f"{self.status.waiting} waiting"]
        parts += [f"[red]{failed} failed[/red]"] if failed else []
        parts.append("time left: not known yet" if left is None else f"about {_long(left)} left")
        return ", ".join(parts)


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
