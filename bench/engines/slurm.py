"""Runs cells on a SLURM cluster through submitit, as job arrays. Preempted jobs are queued again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import ClassVar

from bench.cells.executor import Executor
from bench.engines.base import (
    REFUSALS,
    CannotStart,
    Found,
    Settings,
    Status,
    Watch,
    adopt,
    lost,
    stored,
)  # fmt: skip
from bench.engines.run_folder import RunFolder
from bench.engines.slurm_queue import Book, Job, Part, Queue, last_words, minutes
from bench.plan.work_graph import signature, waves, work_items

POLL = 5.0  # seconds between two requests to the queue
HINT = (
    "--slurm takes options of sbatch, e.g. partition=gpu,time=4:00:00,gpus=1, and cells=N: cells of a job (1), and "
    "grace=S: seconds that what a finished job wrote may take to be seen from here (30)"
)


class Slurm:
    """Runs cells as jobs on a SLURM cluster. The store must be on a file system that all nodes share."""

    job: ClassVar[type[Job]] = Job
    about: ClassVar[str] = "a SLURM cluster, in job arrays; --slurm partition=gpu,time=4:00:00,gpus=1"
    detachable: bool = True
    begun: bool = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        options = dict(settings.options)
        try:
            self.cells = int(options.pop("cells", "1"))
            self.grace = float(options.pop("grace", "30"))
            self.minutes = minutes(options.pop("time", "60"))
        except ValueError as error:
            raise ValueError(f"{error}; {HINT}") from None
        if self.cells < 1:
            raise ValueError(f"--slurm cells={self.cells}: at least 1; {HINT}")
        self.options = {name.replace("_", "-"): value or True for name, value in options.items()}
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise ValueError("--executor slurm needs submitit: pip install -e '.[slurm]'") from None
        if missing := [name for name in ("sbatch", "squeue", "scancel", "srun") if not shutil.which(name)]:
            raise ValueError(f"--executor slurm needs SLURM's commands, and {missing[0]} is not on the PATH")
        self._queue: Queue | None = None

    def prepare(self, executor: Executor) -> None:
        """Do nothing: workers start on other machines."""

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """See `bench.engines.base.Engine`. The run continues without this command, and `attach` watches it again."""
        folder = RunFolder(executor.plan.run)
        self._logs = folder.logs
        self._queue = Queue(f"lethe-{folder.id}", self.minutes, self.settings.workers, self.options)
        with folder.watched():
            yield from _Watched(self, executor, folder, self._queue).cells_found(watch)

    def cancel(self) -> None:
        """Cancel the jobs of the run."""
        if self._queue:
            self._queue.cancel()

    def attaching(self) -> str:
        """A text for people: the commands that show and cancel the jobs, and the folder of the logs."""
        if self._queue is None:
            return ""
        name = self._queue.name
        return f"squeue --name {name} shows the jobs, scancel --name {name} ends them; logs: {self._logs}"


class _Watched:
    """One run, while this command watches it."""

    def __init__(self, engine: Slurm, executor: Executor, folder: RunFolder, queue: Queue) -> None:
        self.executor, self.folder, self.queue = executor, folder, queue
        self.engine, self.settings, self.grace, self.each = engine, engine.settings, engine.grace, engine.cells
        self.pieces = work_items(executor.plan)
        self.signed = signature(self.pieces, executor.outcomes.signature)
        self.cells = {place: unit.cell for place, unit in enumerate(self.pieces) if unit.cell is not None}
        self.job = engine.job(executor.plan.run.elsewhere(), folder, self.signed)
        self.book, self.done = Book({}), set[int]()
        self.waiting: list[Part] = []  # work items that SLURM has not accepted yet
        self._refusal = ""  # the reason why a node of another kind refused a work item
        self._gone: dict[str, float] = {}  # job -> when it was first missed in the queue

    def cells_found(self, watch: Watch) -> Iterator[Found]:
        """Yields the index and the result of each cell once, when it finishes."""
        yield from self._begin()
        while self.cells.keys() - self.done:
            alive = self.queue.alive()
            yield from self._look(alive)
            running = sum(state == "RUNNING" for state in (alive or {}).values())
            open_ = len(self.cells.keys() - self.done)
            watch(Status(min(running, open_), max(0, open_ - running)))
            if open_:
                time.sleep(POLL)

    def _begin(self) -> Iterator[Found]:
        """Attach to a running run or start one. Submit jobs for the cells without a result; yield the other cells."""
        attach = self.settings.attach
        queued, state = self._state()
        adopt(self.executor, self.folder.machine())
        if not attach:
            self.executor.artifacts.store.remove_leftovers()
            self.executor.drop_recomputed()
        place_of = {index: place for place, index in self.cells.items()}
        for index, result in stored(self.executor):
            self.done.add(place_of[index])
            yield index, result
        if not attach:
            self.folder.clear(machine=not self.done)
            if self.done:
                self.folder.claim(self.executor.context.machine)  # results of another machine would not be comparable
        self.engine.begun = True
        self.book = Book(state)
        self.folder.note(self.book.state(self.signed))
        wanted = self.cells.keys() - self.done
        wanted |= {earlier for place in wanted for earlier in self.pieces[place].after}
        wanted -= self.done | self.book.given
        before = sorted({job.partition("_")[0] for job in queued}) if self.settings.workers else []
        for wave in waves(self.pieces):
            if places := [place for place in wave if place in wanted]:
                parts = [tuple(places[i : i + self.each]) for i in range(0, len(places), self.each)]
                arrays, left = self.queue.submit(self.job, self.book, parts, before)
                before, self.waiting = arrays or before, self.waiting + left

    def _state(self) -> tuple[dict[str, str], dict[str, object]]:
        """The run's jobs in the queue, and the state in its folder; both are empty for a new run.

        Raises CannotStart if the run can't be started or attached to.
        """
        attach, state, queued = self.settings.attach, self.folder.state(), self.queue.alive()
        ends = f"scancel --name {self.queue.name}"
        if queued is None:
            raise CannotStart("squeue does not answer: is SLURM's controller up?")
        if not attach:
            if queued:
                said = f"{len(queued)} jobs of this run are in the queue"
                raise CannotStart(f"{said}: --attach watches them, {ends} ends them")
            return {}, {}
        if state is None:
            raise CannotStart("--attach: no run of this command was begun here; give it without --attach")
        if state["signed"] != self.signed:
            said = "the code, its plug-ins or oracles changed after this run began"
            raise CannotStart(f"{said}: end its jobs with {ends}, and give the command without --attach")
        return queued, state

    def _look(self, alive: dict[str, str] | None) -> Iterator[Found]:
        """Yield new results, and submit work items again that ended without a result."""
        retry: list[int] = []
        for place, outcome in self.folder.news(self.done).items():
            if outcome.refused_by:
                self._refusal = outcome.reason
                self.book.refuse(place, outcome.refused_by)
                self.folder.note(self.book.state(self.signed))
                self.folder.take(place)
                self.queue.exclude(self.book)
                if self.book.refused[place] < REFUSALS:
                    retry.append(place)
                else:
                    yield from self._given_up(place, self._refusal)
            elif outcome.retry and self.book.attempts(place) <= self.settings.retries:
                self.folder.take(place)
                retry.append(place)
            else:
                self.done.add(place)
                if outcome.result is not None:
                    adopt(self.executor, self.folder.machine())
                    yield self.cells[place], outcome.result
        handed = self.done | {*retry} | {place for part in self.waiting for place in part}
        for place in [] if alive is None else self._lost(alive, handed):
            if self.book.attempts(place) <= self.settings.retries:
                retry.append(place)
            else:
                job = self.book.job_of(place)
                log = self.folder.logs / f"{job}_0_log.err"
                yield from self._given_up(place, f"SLURM job {job} ended without a result{last_words(log)}", str(log))
        held = {place for part in self.waiting for place in part}
        # each in a job of its own, so that one failure does not affect the others again
        alone = [(place,) for place in retry if place not in held]
        self.waiting += alone
        yield from self._submit_rest(alive)

    def _submit_rest(self, alive: dict[str, str] | None) -> Iterator[Found]:
        """Submit waiting work items up to the limit of jobs. They fail if no node accepts them."""
        self.waiting = [part for part in self.waiting if not self.done.issuperset(part)]
        room = len(self.waiting)
        if self.settings.workers:
            room = 0 if alive is None else max(0, self.settings.workers - len(alive))
        now, later = self.waiting[:room], self.waiting[room:]
        if not now:
            return
        _, left = self.queue.submit(self.job, self.book, now)
        self.waiting = left + later
        if left and self._refusal and self.queue.nowhere:  # every node has refused: queued jobs would wait forever
            self.queue.cancel()
            for place in self.cells.keys() - self.done:
                yield from self._given_up(place, self._refusal)
        elif left and alive == {} and self.queue.alive() == {}:  # otherwise other jobs may make room
            raise CannotStart(f"sbatch refused: {self.queue.refusal}; {HINT}")

    def _given_up(self, place: int, how: str, log: str = "") -> Iterator[Found]:
        self.done.add(place)
        if place in self.cells:
            adopt(self.executor, self.folder.machine())
            index = self.cells[place]
            yield index, lost(self.executor, index, how, self.book.attempts(place), log)

    def _lost(self, alive: dict[str, str], done: set[int]) -> list[int]:
        """The work items of jobs that left the queue at least `grace` seconds ago without a result."""
        now, found = time.monotonic(), list[int]()
        for job, places in self.book.jobs.items():
            if job in alive:
                self._gone.pop(job, None)
                continue
            open_ = [place for place in places if place not in done and self.book.job_of(place) == job]
            if open_ and now - self._gone.setdefault(job, now) >= self.grace:
                found += open_
        return found
