"""Runs cells on a Ray cluster: an actor, which continues without this command, submits a task for each work item."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.cells.executor import Executor
from bench.engines.base import CannotStart, Found, Settings, Status, Watch, adopt, lost, stored
from bench.engines.ray_actor import NAMESPACE, Event, Foreman, Orders, Work, do, find
from bench.engines.run_folder import RunFolder
from bench.plan.work_graph import WorkItem, signature, work_items

POLL = 0.5  # seconds between two requests to the actor
HINT = "--ray takes what a task needs, num_gpus=1, num_cpus=4 or any resource of the cluster, and memory in bytes"


class Ray:
    """Runs cells as tasks on a Ray cluster. The store must be on a file system that all nodes share."""

    unit: ClassVar[Work] = staticmethod(do)  # the function that a task calls
    about: ClassVar[str] = "a Ray cluster, in tasks; --ray-address auto, --ray num_gpus=1"
    detachable: bool = True
    begun: bool = False

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

    def prepare(self, executor: Executor) -> None:
        """Do nothing: workers start on other machines."""

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """See `bench.engines.base.Engine`. The run continues without this command, and `attach` watches it again."""
        self._connect()
        folder, pieces = RunFolder(executor.plan.run), work_items(executor.plan)
        adopt(executor, folder.machine())
        cells = {place: unit.cell for place, unit in enumerate(pieces) if unit.cell is not None}
        place_of, done = {index: place for place, index in cells.items()}, set[int]()
        with folder.watched():
            self._find(folder, signature(pieces, executor.outcomes.signature))
            if not self.settings.attach:
                executor.artifacts.store.remove_leftovers()
                executor.drop_recomputed()
            for index, result in stored(executor):
                done.add(place_of[index])
                yield index, result
            if not self.settings.attach and cells.keys() - done:
                self._begin(executor, folder, pieces, done)
            self.begun, self._logs = self._actor is not None, folder.logs
            for place, found, how, attempts in self._events(cells, done, watch):
                adopt(executor, folder.machine())
                log = str(folder.logs / f"{place}.txt")
                index = cells[place]
                yield index, lost(executor, index, how, attempts, log) if found is None else found
            self.cancel()

    def _find(self, folder: RunFolder, signed: str) -> None:
        """Find the actor of the run. Raises CannotStart if it is missing, or if it is there and should not be."""
        import ray

        self._actor = find(f"lethe-{folder.id}")
        if self.settings.attach and self._actor is None:
            raise CannotStart("--attach: no run of this command goes on on this cluster; give it without --attach")
        if self._actor is not None and not self.settings.attach:
            raise CannotStart("this run goes on on the cluster: --attach watches it")
        if self._actor is not None and ray.get(self._actor.signed.remote()) != signed:
            said = "the code, its plug-ins or oracles changed after this run began"
            raise CannotStart(f"{said}: stop it with Ctrl-C where it was started, then start it again")

    def _begin(self, executor: Executor, folder: RunFolder, pieces: tuple[WorkItem, ...], done: set[int]) -> None:
        """Start the actor, which runs the work items."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        folder.clear(machine=not done)
        if done:
            folder.claim(executor.context.machine)
        near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"lifetime": "detached", "name": f"lethe-{folder.id}", "namespace": NAMESPACE, "num_cpus": 0}
        options["scheduling_strategy"] = near  # the nodes of workers may be removed at any time
        made = ray.remote(Foreman).options(**options, max_restarts=-1, max_concurrency=8)
        signed = signature(pieces, executor.outcomes.signature)
        run, name = executor.plan.run.elsewhere(), f"lethe-{folder.id}"
        orders = Orders(run, folder, signed, str(Path.cwd()), name, type(self).unit)
        self._actor = made.remote(
            orders, pieces, sorted(done), self.settings.retries, self.settings.workers, self._task()
        )

    def _events(self, cells: Mapping[int, int], done: set[int], watch: Watch) -> Iterator[Event]:
        """Yield the event of each cell that is not `done`, once, until every cell is done."""
        import ray

        seen, life = 0, ""
        while cells.keys() - done:
            try:
                events, running, now, broken = ray.get(self._actor.news.remote(seen, life))
            except ray.exceptions.ActorUnavailableError:  # its node was lost: Ray starts it again on another node
                time.sleep(POLL)
                continue
            except ray.exceptions.RayActorError as error:
                raise CannotStart(f"the actor that hands out cells is gone, begin again: {error}") from error
            seen, life = (seen if now == life else 0) + len(events), now
            for event in events:
                if event[0] in cells and event[0] not in done:
                    done.add(event[0])
                    yield event
            if broken:
                self.cancel()
                raise CannotStart(f"cells could not be handed out: {broken}; {HINT}")
            left = len(cells.keys() - done)
            watch(Status(min(running, left), max(0, left - running)))
            if left:
                time.sleep(POLL)

    def cancel(self) -> None:
        """Kill the actor, which also ends its tasks."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    def attaching(self) -> str:
        """A text for people: the command that shows the tasks, and the folder of the logs."""
        return f"`ray summary tasks` shows its tasks; logs: {self._logs}"

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        host, _, port = self.address.rpartition(":")
        if host and port.isdigit() and "/" not in host:  # check the address first: Ray would try for minutes
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except OSError as error:
                raise CannotStart(self._no_cluster(error)) from error
        quiet = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
        logging.getLogger("ray").setLevel(logging.ERROR)  # its messages would overwrite the progress
        own = {"include_dashboard": False} if self.address == "local" else {}
        try:
            ray.init(self.address, **own, **quiet)
        except ConnectionError as error:
            raise CannotStart(self._no_cluster(error)) from error

    def _no_cluster(self, error: Exception) -> str:
        return (
            f"no Ray cluster at {self.address!r} ({error}): start one with `ray start --head`, name one with "
            "--ray-address HOST:PORT, or give --ray-address local for one on this machine"
        )

    def _task(self) -> dict[str, Any]:
        """The resources of a task: by default a GPU if the cluster has one, otherwise a core."""
        import ray

        needs = self.needs or ({"num_gpus": 1.0} if ray.cluster_resources().get("GPU") else {"num_cpus": 1.0})
        known = ("num_cpus", "num_gpus", "memory")
        own = {name: value for name, value in needs.items() if name in known}
        return {**own, "resources": {name: value for name, value in needs.items() if name not in known}}
