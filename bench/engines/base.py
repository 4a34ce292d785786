"""What an engine is: something that gets the cells of a run computed, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.cells.executor import Executor
from bench.core import digest
from bench.core.results import CellResult


@dataclass(frozen=True)
class Settings:
    """How a run is spread, as the command line says it; results do not depend on it.

    Args:
        workers: cells at a time; None for the engine's usual number.
        retries: how often a cell is tried again whose worker or machine failed, which is no fault of its method.
        attach: whether to watch a run that was left behind, in place of beginning one.
        options: of the engine's own flag, by name.
    """

    workers: int | None = None
    retries: int = 1
    attach: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """Of the cells that have no result yet: how many are being computed, and how many wait."""

    running: int
    waiting: int


REFUSALS = 3  # nodes of another kind that a unit meets before it is given up
ROOT = Path(__file__).resolve().parents[2]  # of the code, for processes that start elsewhere
Watch = Callable[[Status], None]
Found = tuple[int, CellResult]  # index of a cell in the plan, its result


class Engine(Protocol):
    """One way to have cells computed. A new one is a class in a file of its own, and an entry in `ENGINES`.

    Attributes:
        about: one line for `ls executors`.
        detachable: whether what was begun goes on without the command that began it; an instance may know better.
        begun: whether something goes on by now that would: handed out by this command, or by one that it attached to.
    """

    about: ClassVar[str]
    detachable: bool
    begun: bool

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for settings that make no sense, or where what the engine needs is not there."""

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """Have every cell of the executor's plan computed; yield each once, as it finishes.

        What `--force` computes again is dropped first. A cell whose worker or machine fails is tried again, `retries`
        times, then fails with the reason and where its log is. `watch` is told now and then what is going on. Where
        workers stand on another kind of machine, the executor has adopted it by the time that the last result is there.
        Raises CannotStart.
        """

    def cancel(self) -> None:
        """End whatever was begun and is not done; what is finished stays in the store. For detachable engines."""

    def attaching(self) -> str:
        """For people: what is left running, and how else than by `--attach` it is seen. For detachable engines."""


class CannotStart(RuntimeError):
    """A run that can't be begun or watched, or whose workers could not make ready what this process could."""


def stored(executor: Executor) -> Iterator[Found]:
    """Cells of the executor's plan that need nothing more: the store has all that is wanted of them."""
    for index, cell in enumerate(executor.plan.cells):
        result = executor.outcomes.stored(cell)
        if executor.outcomes.finished(result):
            yield index, result


def lost(executor: Executor, index: int, how: str, attempts: int, log: str = "") -> CellResult:
    """The result of a cell whose workers failed every time: `how`, for people, and the path of the last one's log.

    Unless the store has one: then they failed after it was done.
    """
    cell = executor.plan.cells[index]
    result = executor.outcomes.stored(cell)
    if executor.outcomes.finished(result):
        return result  # only its worker's last words were lost
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    return executor.outcomes.failed(cell, f"{how}{tried}", log=log)


def adopt(executor: Executor, machine: Mapping[str, Any] | None) -> None:
    """Have the executor see the store as the workers' kind of machine does, if it is known and another than its own."""
    if machine is not None and machine != digest.plain(executor.context.machine):
        executor.adopt(machine)


@dataclass(frozen=True)
class WorkOutcome:
    """What came of one work item on a worker.

    Args:
        result: of its cell; None for what cells share, and where a node refused the item.
        refused_by: the node that refused it, which is of another kind than the run's; "" elsewhere.
        reason: why that node refused it.
    """

    result: CellResult | None = None
    refused_by: str = ""
    reason: str = ""

    @property
    def retry(self) -> bool:
        """Whether a cell failed for what its machine did, so that another attempt may fare better."""
        return self.result is not None and self.result.retry

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON has it."""
        return {
            "result": self.result and self.result.to_json(),
            "refused_by": self.refused_by,
            "reason": self.reason,
        }

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> WorkOutcome:
        """The outcome that `to_json` described."""
        result = facts["result"]
        return WorkOutcome(result and CellResult.from_json(result), facts["refused_by"], facts["reason"])
