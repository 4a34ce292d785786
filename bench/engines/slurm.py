"""A SLURM cluster, through submitit: job arrays, their logs, and requeueing of what is preempted."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bench import labour
from bench.config import RunConfig
from bench.engines.base import CannotStart, Found, Settings, Status, Watch, adopt, again, lost, stored
from bench.executor import Executor
from bench.runs import RunFolder, apart
from bench.units import signature, units, waves

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 1000  # jobs of an array: clusters take 1001 unless told otherwise
POLL = 5.0  # seconds between two looks at the queue
TIMEOUTS = 100  # how often a job that ran into its time limit goes on in another
HINT = (
    "--slurm takes options of sbatch, e.g. partition=gpu,time=4:00:00,gpus=1, and cells=N: cells of a job (1), and "
    "grace=S: seconds that what a finished job wrote may take to be seen from here (30)"
)


class Book:
    """Which job has which units, and how often each was tried."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.jobs: dict[str, tuple[int, ...]] = {job: tuple(places) for job, places in state.get("jobs", {}).items()}
        self.attempts = Counter(place for places in self.jobs.values() for place in places)
        self._last = {place: job for job, places in self.jobs.items() for place in places}

    def give(self, job: str, places: Sequence[int]) -> None:
        """A job has these units."""
        self.jobs[job] = tuple(places)
        self.attempts.update(places)
        self._last |= dict.fromkeys(places, job)

    def job_of(self, place: int) -> str:
        """The last job that had the unit."""
        return self._last[place]

    def state(self, signed: str) -> dict[str, Any]:
        """For another shell; `signed` is the signature of the units."""
        return {"jobs": self.jobs, "signed": signed}


class Job:
    """What a job does: some units of a run. After preemption or its time limit it begins anew, where they stopped."""

    def __init__(self, run: RunConfig, folder: RunFolder, signed: str) -> None:
        self.run, self.folder, self.signed = run, folder, signed

    def __call__(self, places: Sequence[int]) -> None:
        """Do the units and say so."""
        for place in places:
            if not self.folder.has(place):
                self.folder.put(place, self.work(place))

    def work(self, place: int) -> dict[str, Any]:
        """One unit."""
        return labour.work(self.run, self.folder, place, self.signed)

    def checkpoint(self, places: Sequence[int]) -> Any:
        """What submitit submits again: a training left its own checkpoint in the store."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, places)


class Slurm:
    """Jobs on a SLURM cluster; the store must lie on a file system that its nodes share."""

    job: ClassVar[type[Job]] = Job
    about: ClassVar[str] = "a SLURM cluster, in job arrays; --slurm partition=gpu,time=4:00:00,gpus=1"
    detachable: bool = True

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
        self._name, self._refusal = "", ""  # of this run's jobs; why SLURM would not take one

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """As `bench.engines.base.Engine` says. The run goes on without this command, which `attach` takes up again."""
        folder = RunFolder(executor.plan.run)
        self._name = f"lethe-{folder.id}"
        with folder.watched():
            yield from self._watched(executor, folder, watch)

    def _watched(self, executor: Executor, folder: RunFolder, watch: Watch) -> Iterator[Found]:
        pieces, state, queued = units(executor.plan), folder.state(), self._queue()
        signed, attach = signature(pieces), self.settings.attach
        if queued is None:
            raise CannotStart("squeue does not answer: is SLURM's controller up?")
        if queued and not attach:
            raise CannotStart(
                f"{len(queued)} jobs of this run are in the queue: --attach watches them, scancel --name {self._name} "
                "ends them"
            )
        if attach and state is None:
            raise CannotStart("--attach: no run of this command was begun here; give it without --attach")
        if attach and state and state["signed"] != signed:
            raise CannotStart(
                "the code, its plug-ins or oracles changed after this run began: end its jobs with scancel --name "
                f"{self._name}, and give the command without --attach"
            )
        adopt(executor, folder.machine())
        if not attach:
            executor.drop_forced()
        book = Book(state if attach and state else {})
        cells = {place: unit.cell for place, unit in enumerate(pieces) if unit.cell is not None}
        place_of, done = {index: place for place, index in cells.items()}, set[int]()
        for index, result in stored(executor):  # needs no job
            done.add(place_of[index])
            yield index, result
        if not attach:
            folder.clear(machine=not done)
            if done:
                folder.claim(executor.stages.machine)  # results of another would not compare
        folder.note(book.state(signed))
        wanted = cells.keys() - done
        wanted |= {earlier for place in wanted for earlier in pieces[place].after}
        wanted -= done | book.attempts.keys()
        run, gone, before = apart(executor.plan.run), dict[str, float](), list[str]()
        job = self.job(run, folder, signed)
        waiting: list[tuple[int, ...]] = []  # parts that sbatch did not take yet
        for wave in waves(pieces):
            if places := [place for place in wave if place in wanted]:
                parts = [tuple(places[i : i + self.cells]) for i in range(0, len(places), self.cells)]
                arrays, left = self._submit(job, folder, book, parts, signed, before)
                before, waiting = arrays or before, waiting + left
        while cells.keys() - done:
            alive = self._queue()
            retry: list[int] = []
            for place, result in folder.news(done).items():
                if again(result) and book.attempts[place] <= self.settings.retries:
                    folder.take(place)
                    retry.append(place)
                    continue
                done.add(place)
                if place in cells:
                    adopt(executor, folder.machine())
                    yield cells[place], result
            for place in [] if alive is None else self._lost(book, alive, gone, done | {*retry}):
                if book.attempts[place] <= self.settings.retries:
                    retry.append(place)
                    continue
                done.add(place)
                if place in cells:
                    log = folder.logs / f"{book.job_of(place)}_0_log.err"
                    how = f"SLURM job {book.job_of(place)} ended without a result{last_words(log)}"
                    adopt(executor, folder.machine())
                    yield cells[place], lost(executor, cells[place], how, book.attempts[place], str(log))
            if (retry and self.settings.retries) or waiting:  # each alone, so that none suffers from another again
                _, waiting = self._submit(job, folder, book, [*waiting, *((place,) for place in retry)], signed)
                if waiting and alive == {} and not self._queue():
                    raise CannotStart(f"sbatch refused: {self._refusal}; {HINT}")
            running = sum(state == "RUNNING" for state in (alive or {}).values())
            open_ = len(cells.keys() - done)
            watch(Status(min(running, open_), max(0, open_ - running)))
            if open_:
                time.sleep(POLL)

    def cancel(self) -> None:
        """End the run's jobs."""
        if self._name:
            subprocess.run(["scancel", "--name", self._name], check=False)

    def attaching(self) -> str:
        """How its jobs are seen without this command."""
        return f"squeue --name {self._name} shows the jobs, scancel --name {self._name} ends them"

    def _lost(self, book: Book, alive: dict[str, str], gone: dict[str, float], done: set[int]) -> list[int]:
        """Units of jobs that left the queue some time ago and have not said that they are done."""
        now, found = time.monotonic(), []
        for job, places in book.jobs.items():
            if job in alive:
                gone.pop(job, None)
                continue
            open_ = [place for place in places if place not in done and book.job_of(place) == job]
            if open_ and now - gone.setdefault(job, now) >= self.grace:
                found += open_
        return found

    def _queue(self) -> dict[str, str] | None:
        """Job -> its state, of this run's jobs in the queue; None where SLURM does not answer."""
        words = ["squeue", "--noheader", "--array", "--format", "%i|%T", "--name", self._name]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode:
            return None
        return dict(line.strip().split("|", 1) for line in answer.stdout.splitlines() if "|" in line)  # type: ignore[misc]

    def _submit(
        self,
        job: Job,
        folder: RunFolder,
        book: Book,
        parts: Sequence[tuple[int, ...]],
        signed: str,
        after: Sequence[str] = (),
    ) -> tuple[list[str], list[tuple[int, ...]]]:
        """Submit a job for each of `parts`; they begin when the arrays `after` have ended, well or not.

        Returns the numbers of the arrays, and the parts that SLURM would not take now, as where a user may queue so
        many jobs and no more.
        """
        import submitit

        folder.logs.mkdir(parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(folder.logs, max_num_timeout=TIMEOUTS)
        executor.update_parameters(
            job_name=self._name,
            time=self.minutes,
            array_parallelism=self.settings.workers or LONGEST,
            setup=[f'export PYTHONPATH="{ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"'],
            additional_parameters={"requeue": True, **self.options},
            **({"dependency": f"afterany:{':'.join(after)}"} if after else {}),
        )
        arrays: list[str] = []
        for start in range(0, len(parts), LONGEST):
            some = parts[start : start + LONGEST]
            try:
                jobs = executor.map_array(job, some) if len(some) > 1 else [executor.submit(job, some[0])]
            except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
                self._refusal = str(error)
                return arrays, [*parts[start:]]
            for one, part in zip(jobs, some, strict=True):
                book.give(one.job_id, part)
            arrays.append(jobs[0].job_id.partition("_")[0])
            folder.note(book.state(signed))
        return arrays, []


def last_words(log: Path) -> str:
    """The end of a job's log, for people: what it died of, if it could say so."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ", and left no log"
    return f": {lines[-1][:300]}" if lines else ""


def minutes(text: str) -> int:
    """Minutes of a time limit as sbatch takes it, rounded up: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises ValueError."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise ValueError(f"time={text} is no time limit of sbatch's, e.g. 90, 4:00:00 or 1-12")
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minute, second = (*parts, 0, 0)[:3]
    else:
        hours, minute, second = {1: (0, *parts, 0), 2: (0, *parts), 3: (*parts,)}[len(parts)]  # type: ignore[misc]
    return (int(days or 0) * 24 + hours) * 60 + minute + (second > 0)
