"""The actor that submits the work items of a run on a Ray cluster, and the tasks that run them."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.engines import worker
from bench.engines.base import REFUSALS, ROOT, WorkOutcome
from bench.engines.run_folder import OtherMachine, RunFolder
from bench.plan.work_graph import WorkItem

NAMESPACE = "lethe"
Event = tuple[int, CellResult | None, str, int]  # work item, its result, the reason if it has no result, attempts
Work = Callable[["Orders", int], WorkOutcome]  # (orders, work item) -> its outcome


def find(name: str) -> Any:
    """The actor of a running run; None if there is none."""
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


@dataclass(frozen=True)
class Orders:
    """The arguments that all tasks of a run share.

    Args:
        run: the run.
        folder: the folder of the run.
        signed: the signature of the work items.
        cwd: the working directory of the command that started the run.
        name: the name of the actor.
        unit: the function that a task calls.
    """

    run: RunConfig
    folder: RunFolder
    signed: str
    cwd: str
    name: str
    unit: Work


class Foreman:
    """The actor: it submits each work item when the work items before it are done, and records the outcomes.

    If its node is lost, Ray starts the actor again on another node. The store then tells which work items are done, and
    the run's folder tells the number of attempts.

    Args:
        orders: the arguments of every task.
        pieces: all work items of the run.
        known: indices of the work items that are done.
        retries: how often a work item is tried again.
        workers: work items that run in parallel; None for no limit.
        task: Ray's options of a task.
    """

    def __init__(
        self,
        orders: Orders,
        pieces: tuple[WorkItem, ...],
        known: list[int],
        retries: int,
        workers: int | None,
        task: dict[str, Any],
    ) -> None:
        self.orders, self.pieces, self.retries, self.workers = orders, pieces, retries, workers
        before = orders.folder.state() or {}
        self.attempts = Counter({int(place): count for place, count in before.get("attempts", {}).items()})
        self.refused = Counter({int(place): count for place, count in before.get("refused", {}).items()})
        self.refusing: set[str] = {*before.get("refusing", ())}  # nodes, by id
        self.done, self.running = {*known}, set[int]()
        self.events: list[Event] = []
        self.reason = ""  # why a node refused the last time
        self.life, self.broken = uuid.uuid4().hex, ""
        # attempts are counted here: Ray itself repeats a task without limit if memory runs out
        self.task: dict[str, Any] = {**task, "max_retries": 0, "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}}}
        self.avoid()
        Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        """Submit all work items, and wait for them. An exception is stored in `broken`."""
        try:
            self._work()
        except Exception as error:
            self.broken = f"{type(error).__name__}: {error}"

    def _work(self) -> None:
        import ray

        unit = ray.remote(self.orders.unit)
        needed = {p for p, unit in enumerate(self.pieces) if unit.cell is not None} - self.done
        needed |= {p for one in needed for p in self.pieces[one].after} - self.done
        waiting, under_way = sorted(needed), dict[Any, int]()
        while waiting or under_way:
            room = len(waiting) if self.workers is None else self.workers - len(under_way)
            free = [p for p in waiting if not any(a in needed and a not in self.done for a in self.pieces[p].after)]
            for place in free[: max(0, room)]:
                self.attempts[place] += 1
                under_way[unit.options(**self.task).remote(self.orders, place)] = place
                waiting.remove(place)
            ready, _ = ray.wait([*under_way], timeout=1.0)
            for task in ready:
                place = under_way.pop(task)
                self.running.discard(place)
                outcome, how, retry = came_of(task)
                if outcome and outcome.refused_by:
                    how = self.reason = outcome.reason
                    retry = self.refuse(place, outcome.refused_by)
                if retry and self.attempts[place] <= self.retries:
                    waiting.append(place)
                    self.note()
                else:
                    self.came(place, outcome.result if outcome else None, how)
            if self.refusing and not self.somewhere():
                for place in waiting:
                    self.came(place, None, self.reason)
                waiting.clear()

    def came(self, place: int, result: CellResult | None, how: str) -> None:
        """Record the outcome of a work item: its result, or the reason why it has no result."""
        self.done.add(place)
        self.events.append((place, result, how, self.attempts[place]))

    def refuse(self, place: int, node: str) -> bool:
        """Record that a node refused a work item: no attempt. Returns whether another node may accept it."""
        self.refusing |= {node}
        self.refused[place] += 1
        self.attempts[place] -= 1
        self.note()
        self.avoid()
        return self.refused[place] < REFUSALS and self.somewhere()

    def avoid(self) -> None:
        """Submit no more tasks to nodes that refused a work item."""
        if self.refusing:
            self.task["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self.refusing))})"}

    def somewhere(self) -> bool:
        """Whether a node that has not refused can run a task. Otherwise Ray would wait forever."""
        import ray

        wanted = {"CPU": self.task.get("num_cpus", 0), "GPU": self.task.get("num_gpus", 0)}
        wanted |= {"memory": self.task.get("memory", 0), **self.task.get("resources", {})}
        others = [n["Resources"] for n in ray.nodes() if n["Alive"] and n["NodeID"] not in self.refusing]
        return any(all(has.get(name, 0) >= amount for name, amount in wanted.items()) for has in others)

    def note(self) -> None:
        """Write the state that an actor needs after a restart and that the store does not hold."""
        with suppress(OSError):
            told = {"attempts": self.attempts, "refused": self.refused, "refusing": sorted(self.refusing)}
            self.orders.folder.note({**told, "signed": self.orders.signed})

    def signed(self) -> str:
        """The signature of the work items."""
        return self.orders.signed

    def begun(self, place: int) -> None:
        """Record that the task of a work item has started. The task calls this method."""
        self.running.add(place)

    def news(self, since: int, life: str) -> tuple[list[Event], int, str, str]:
        """The events after the first `since` ones of a `life`, the number of running cells, the present life, an error.

        A life is the time between two restarts of the actor. The error says why no task is submitted any more.
        """
        cells = sum(self.pieces[place].cell is not None for place in self.running - self.done)
        return self.events[since if life == self.life else 0 :], cells, self.life, self.broken


def came_of(task: Any) -> tuple[WorkOutcome | None, str, bool]:
    """The outcome of a task, or the reason why it has none; and whether another attempt may succeed."""
    import ray

    try:
        outcome: WorkOutcome = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return None, f"its task failed: {error.cause!r}", isinstance(error.cause, OSError)
    except ray.exceptions.RayError as error:
        return None, f"its worker or node was lost ({type(error).__name__})", True
    return outcome, "", outcome.retry


def do(orders: Orders, place: int) -> WorkOutcome:
    """The function of a task: run one work item. Its log file shows the traceback of a crash."""
    import faulthandler

    with suppress(OSError):
        os.chdir(orders.cwd)
    actor = find(orders.name)
    if actor is not None:
        actor.begun.remote(place)
    with opened(orders.folder.logs / f"{place}.txt") as log:
        say(log, f"process {os.getpid()} on {os.uname().nodename} begins")
        faulthandler.enable(log)
        try:
            outcome = worker.work(orders.run, orders.folder, place, orders.signed)
        except OtherMachine as error:
            outcome = WorkOutcome(refused_by=here(), reason=str(error))
        say(log, "refused" if outcome.refused_by else "done")
        faulthandler.enable()
    return outcome


def here() -> str:
    """The id of this process's node."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def opened(log: Path) -> IO[str]:
    """A log file to write to. If it can't be created, the null device is returned, so that the work continues."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError:
        return Path(os.devnull).open("a", encoding="utf-8")


def say(log: IO[str], what: str) -> None:
    """Write a line with the current time to a log."""
    with suppress(OSError):
        print(f"{what} {time.strftime('%F %T')}", file=log, flush=True)
