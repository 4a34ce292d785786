"""The interface of an engine, which runs the cells of a plan on this machine or on other machines."""

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
    """The settings of an engine from the command line. Results do not depend on them.

    Args:
        workers: number of cells to run in parallel; None for the default of the engine.
        retries: number of further attempts if a worker or a machine fails. A cell whose method fails is not repeated.
        attach: whether to watch a run that is already running, instead of starting one.
        options: the engine's own options by name.
    """

    workers: int | None = None
    retries: int = 1
    attach: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """The numbers of cells without a result that are running, and that are waiting."""

    running: int
    waiting: int


REFUSALS = 3  # a work item fails after this many nodes with another kind of machine have refused it
ROOT = Path(__file__).resolve().parents[2]  # root folder of the code, for processes that start in another folder
Watch = Callable[[Status], None]
Found = tuple[int, CellResult]  # index of a cell in the plan, its result


class Engine(Protocol):
    """A way to run the cells of a plan. A new engine is a class in its own file, and an entry in `ENGINES`.

    Attributes:
        about: a description in one line, for `ls executors`.
        detachable: whether a run continues after the end of the command that started it. An instance may override it.
        begun: whether work has been submitted that would continue without this command.
    """

    about: ClassVar[str]
    detachable: bool
    begun: bool

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for invalid settings, and if a program or package that the engine needs is missing."""

    def prepare(self, executor: Executor) -> None:
        """Begin what takes time before the first cell, while this process checks the world of the run."""

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """Have every cell of the executor's plan computed; yield each once, as it finishes.

        What `--force` computes again is dropped first. A cell whose worker or machine fails is tried again, `retries`
        times, then fails with the reason and where its log is. `watch` is told now and then what is going on. Where
        workers stand on another kind of machine, the executor has adopted it by the time that the last result is there.
        Raises CannotStart.
        """

    def cancel(self) -> None:
        """Stop all unfinished work. Finished results stay in the store. For detachable engines."""

    def attaching(self) -> str:
        """A text for people: how to see the running work without `--attach`. For detachable engines."""


class CannotStart(RuntimeError):
    """A run can't be started or watched, or its workers can't start."""


def stored(executor: Executor) -> Iterator[Found]:
    """The cells of the executor's plan with a complete result in the store, and their results."""
    for index, cell in enumerate(executor.plan.cells):
        result = executor.outcomes.stored(cell)
        if executor.outcomes.finished(result):
            yield index, result


def lost(executor: Executor, index: int, how: str, attempts: int, log: str = "") -> CellResult:
    """The result of a cell whose worker failed in every attempt.

    If the store has a complete result, it is returned: the last worker failed after it had finished the cell.

    Args:
        executor: the executor of the run.
        index: index of the cell in the plan.
        how: the reason of the failure, for people.
        attempts: the number of attempts.
        log: path of the log of the last worker.
    """
    cell = executor.plan.cells[index]
    result = executor.outcomes.stored(cell)
    if executor.outcomes.finished(result):
        return result
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    return executor.outcomes.failed(cell, f"{how}{tried}", log=log)


def adopt(executor: Executor, machine: Mapping[str, Any] | None) -> None:
    """Let the executor read the results of the workers' `machine`, if it is known and differs from this machine."""
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
