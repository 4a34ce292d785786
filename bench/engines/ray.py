"""A Ray cluster: a task for each unit, handed out by an actor that outlives the shell."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any, ClassVar

from bench import labour
from bench.config import RunConfig
from bench.engines.base import CannotStart, Found, Settings, Status, Watch, adopt, again, lost, stored
from bench.executor import Executor
from bench.runs import RunFolder, apart
from bench.units import Unit, signature, units

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "lethe"
Event = tuple[int, dict[str, Any] | None, str, int]  # unit, its result, how it was lost if it has none, attempts
Work = Callable[["Orders", int], dict[str, Any]]  # orders, a unit -> what came of it
POLL = 0.5  # seconds between two questions to the actor
HINT = "--ray takes what a task needs, num_gpus=1, num_cpus=4 or any resource of the cluster, and memory in bytes"


class Ray:
    """Tasks on a Ray cluster; the store must lie on a file system that its nodes share."""

    unit: ClassVar[Work]  # what a task does
    about: ClassVar[str] = "a Ray cluster, in tasks; --ray-address auto, --ray num_gpus=1"
    detachable: bool = True

    def __init__(self, settings: Settings) -> None:
        self.settings, options = settings, dict(settings.options)
        self.address = options.pop("address", "auto")
        try:
            self.needs = {name: float(value) for name, value in options.items()}
        except ValueError:
            raise ValueError(f"--ray {' '.join(f'{k}={v}' for k, v in options.items())}: no numbers; {HINT}") from None
        try:
            import ray  # noqa: F401
        except ImportError:
            raise ValueError("--executor ray needs ray: pip install -e '.[ray]'") from None
        self.detachable = self.address != "local"  # that cluster ends with this command
        self._actor: Any = None

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """As `bench.engines.base.Engine` says. The run goes on without this command, which `attach` takes up again."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._connect()
        run = apart(executor.plan.run)
        folder, pieces = RunFolder(run), units(executor.plan)
        adopt(executor, folder.machine())
        cells = {place: unit.cell for place, unit in enumerate(pieces) if unit.cell is not None}
        place_of = {index: place for place, index in cells.items()}
        name, attach = f"lethe-{folder.id}", self.settings.attach
        with folder.watched():
            self._actor = find(name)
            if attach and self._actor is None:
                raise CannotStart("--attach: no run of this command goes on on this cluster; give it without --attach")
            if self._actor is not None and not attach:
                raise CannotStart("this run goes on on the cluster: --attach watches it")
            if not attach:
                executor.drop_forced()
            done = set[int]()
            for index, result in stored(executor):
                done.add(place_of[index])
                yield index, result
            if not attach and cells.keys() - done:
                folder.clear(machine=not done)
                if done:
                    folder.claim(executor.stages.machine)
                near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
                options = {"lifetime": "detached", "name": name, "namespace": NAMESPACE, "num_cpus": 0}
                options["scheduling_strategy"] = near  # workers' nodes come and go
                made = ray.remote(Foreman).options(**options, max_restarts=-1, max_concurrency=8)
                given = Orders(run, folder, signature(pieces), str(Path.cwd()), name, type(self).unit)
                limits = self.settings.retries, self.settings.workers
                self._actor = made.remote(given, pieces, sorted(done), *limits, self._task())
            seen, life = 0, ""
            while cells.keys() - done:
                try:
                    events, running, now, broken = ray.get(self._actor.news.remote(seen, life))
                except ray.exceptions.ActorUnavailableError:  # its node was lost: it begins anew on another
                    time.sleep(POLL)
                    continue
                except ray.exceptions.RayActorError as error:
                    raise CannotStart(f"the actor that hands out cells is gone, begin again: {error}") from error
                seen, life = (seen if now == life else 0) + len(events), now
                for place, result, how, attempts in events:
                    if place not in cells or place in done:
                        continue
                    done.add(place)
                    adopt(executor, folder.machine())
                    log = str(folder.logs / f"{place}.txt")
                    yield cells[place], result or lost(executor, cells[place], how, attempts, log)
                if broken:
                    self.cancel()
                    raise CannotStart(f"cells could not be handed out: {broken}; {HINT}")
                left = len(cells.keys() - done)
                watch(Status(min(running, left), max(0, left - running)))
                if left:
                    time.sleep(POLL)
            self.cancel()

    def cancel(self) -> None:
        """End the actor, and with it the tasks that it handed out."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    def attaching(self) -> str:
        """How its tasks are seen without this command."""
        return "`ray summary tasks` shows its tasks"

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        quiet = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
        logging.getLogger("ray").setLevel(logging.ERROR)  # it would write across the progress
        own = {"include_dashboard": False} if self.address == "local" else {}
        try:
            ray.init(self.address, **own, **quiet)
        except ConnectionError as error:
            raise CannotStart(
                f"no Ray cluster at {self.address!r} ({error}): start one with `ray start --head`, name one with "
                "--ray-address HOST:PORT, or give --ray-address local for one on this machine"
            ) from error

    def _task(self) -> dict[str, Any]:
        """What a task asks the cluster for: a GPU where there are some, else a core."""
        import ray

        needs = self.needs or ({"num_gpus": 1.0} if ray.cluster_resources().get("GPU") else {"num_cpus": 1.0})
        known = ("num_cpus", "num_gpus", "memory")
        own = {name: value for name, value in needs.items() if name in known}
        return {**own, "resources": {name: value for name, value in needs.items() if name not in known}}


def find(name: str) -> Any:
    """The actor of a run that goes on, or None."""
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


@dataclass(frozen=True)
class Orders:
    """What a task is told besides its unit: the run, its folder, its units' signature, where it was begun from.

    `name` is the foreman's, `unit` what a task does.
    """

    run: RunConfig
    folder: RunFolder
    signed: str
    cwd: str
    name: str
    unit: Work


class Foreman:
    """The actor: hands out units as what they come after is done, and remembers what came of them.

    Where its node is lost it begins a new life elsewhere, and finds what is done in the store.

    Args:
        orders: for every task.
        known: places of units that are done.
        retries: how often a unit is tried again.
        workers: units at a time; None for what the cluster gives.
        task: options of its tasks.
    """

    def __init__(
        self,
        orders: Orders,
        pieces: tuple[Unit, ...],
        known: list[int],
        retries: int,
        workers: int | None,
        task: dict[str, Any],
    ) -> None:
        self.orders, self.pieces, self.retries, self.workers = orders, pieces, retries, workers
        self.done, self.attempts, self.running = {*known}, Counter[int](), set[int]()
        self.events: list[Event] = []
        self.life, self.broken = uuid.uuid4().hex, ""
        # attempts are counted here: Ray's own would repeat a cell without limit where memory ends
        self.task = {**task, "max_retries": 0, "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}}}
        Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        """Have everything done."""
        try:
            self._work()
        except Exception as error:
            self.broken = f"{type(error).__name__}: {error}"

    def _work(self) -> None:
        import ray

        remote = ray.remote(self.orders.unit).options(**self.task)
        needed = {p for p, unit in enumerate(self.pieces) if unit.cell is not None} - self.done
        needed |= {p for one in needed for p in self.pieces[one].after} - self.done
        waiting, under_way = sorted(needed), dict[Any, int]()
        while waiting or under_way:
            room = len(waiting) if self.workers is None else self.workers - len(under_way)
            free = [p for p in waiting if not any(a in needed and a not in self.done for a in self.pieces[p].after)]
            for place in free[: max(0, room)]:
                self.attempts[place] += 1
                under_way[remote.remote(self.orders, place)] = place
                waiting.remove(place)
            ready, _ = ray.wait([*under_way], timeout=1.0)
            for task in ready:
                place, more = under_way.pop(task), self.attempts
                self.running.discard(place)
                result, how, retry = None, "", True
                try:
                    result = ray.get(task)
                    retry = again(result)
                except ray.exceptions.RayTaskError as error:
                    how, retry = f"its task failed: {error.cause!r}", isinstance(error.cause, OSError)
                except ray.exceptions.RayError as error:
                    how = f"its worker or node was lost ({type(error).__name__})"
                if retry and more[place] <= self.retries:
                    waiting.append(place)
                    continue
                self.done.add(place)
                self.events.append((place, result, how, more[place]))

    def begun(self, place: int) -> None:
        """Told by a task that it runs."""
        self.running.add(place)

    def news(self, since: int, life: str) -> tuple[list[Event], int, str, str]:
        """What came of units after the first `since` events of a `life`, how many cells run, the present life.

        And why nothing is handed out any more, if that is so.
        """
        cells = sum(self.pieces[place].cell is not None for place in self.running - self.done)
        return self.events[since if life == self.life else 0 :], cells, self.life, self.broken


def do(orders: Orders, place: int) -> dict[str, Any]:
    """A task: one unit, with a log of its own that tells of a crash."""
    import faulthandler

    with suppress(OSError):
        os.chdir(orders.cwd)
    actor = find(orders.name)
    if actor is not None:
        actor.begun.remote(place)
    with opened(orders.folder.logs / f"{place}.txt") as log:
        say(log, f"process {os.getpid()} on {os.uname().nodename} begins")
        faulthandler.enable(log)
        result = labour.work(orders.run, orders.folder, place, orders.signed)
        say(log, "done")
        faulthandler.enable()
    return result


def opened(log: Path) -> IO[str]:
    """A log to write to; where there is no room for one, that is no reason not to compute."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a")
    except OSError:
        return Path(os.devnull).open("a")


def say(log: IO[str], what: str) -> None:
    """A line of a log, with the time."""
    with suppress(OSError):
        print(f"{what} {time.strftime('%F %T')}", file=log, flush=True)


Ray.unit = staticmethod(do)
