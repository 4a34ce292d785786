"""Jobs of a SLURM cluster: the work of a job, a record of the jobs' work items, and the queue."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.config import RunConfig
from bench.engines import worker
from bench.engines.base import ROOT, WorkOutcome
from bench.engines.run_folder import OtherMachine, RunFolder

LONGEST = 1000  # jobs of an array: clusters take 1001 unless told otherwise
TIMEOUTS = 100  # how often a job that ran into its time limit goes on in another
NO_NODE = "node configuration is not available"  # what sbatch says
Part = tuple[int, ...]  # units of one job


class Book:
    """Which job has which units, how often each was tried, which nodes refused some.

    Args:
        state: of an earlier shell, as `state` gave it; empty for a new run.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.jobs: dict[str, Part] = {job: tuple(places) for job, places in state.get("jobs", {}).items()}
        self.refused = Counter({int(place): count for place, count in state.get("refused", {}).items()})
        self.excluded: list[str] = list(state.get("excluded", ()))  # nodes
        self._given = Counter(place for places in self.jobs.values() for place in places)
        self._last = {place: job for job, places in self.jobs.items() for place in places}

    def give(self, job: str, places: Part) -> None:
        """A job has these units."""
        self.jobs[job] = places
        self._given.update(places)
        self._last |= dict.fromkeys(places, job)

    def refuse(self, place: int, node: str) -> None:
        """A node would not do the unit, which does not count as an attempt."""
        self.refused[place] += 1
        self.excluded += [] if node in self.excluded else [node]

    def attempts(self, place: int) -> int:
        """How often the unit was tried."""
        return self._given[place] - self.refused[place]

    @property
    def given(self) -> set[int]:
        """Units that some job has or had."""
        return {*self._given}

    def job_of(self, place: int) -> str:
        """The last job that had the unit."""
        return self._last[place]

    def state(self, signed: str) -> dict[str, Any]:
        """For another shell; `signed` is the signature of the units."""
        return {"jobs": self.jobs, "refused": self.refused, "excluded": self.excluded, "signed": signed}


class Job:
    """The work of a job: some work items of a run.

    After preemption or its time limit a job is submitted again. It skips finished work items, and a training continues
    from its checkpoint.
    """

    def __init__(self, run: RunConfig, folder: RunFolder, signed: str) -> None:
        self.run, self.folder, self.signed = run, folder, signed

    def __call__(self, places: Sequence[int]) -> None:
        """Run the work items, and write the outcome of each to the run's folder."""
        for place in places:
            if not self.folder.has(place):
                self.folder.put(place, self.work(place))

    def work(self, place: int) -> WorkOutcome:
        """One unit; on another kind of machine than the run's, that this one refuses it."""
        try:
            return worker.work(self.run, self.folder, place, self.signed)
        except OtherMachine as error:
            node = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
            return WorkOutcome(refused_by=node, reason=str(error))

    def checkpoint(self, places: Sequence[int]) -> Any:
        """The job that submitit submits again. A training has its own checkpoint in the store."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, places)


class Queue:
    """The jobs of one run in SLURM's queue.

    Args:
        name: the name of all jobs of the run.
        minutes: time limit of a job.
        workers: number of jobs of an array that run in parallel; None for no limit.
        options: options of sbatch.
    """

    def __init__(self, name: str, minutes: int, workers: int | None, options: Mapping[str, Any]) -> None:
        self.name, self.minutes, self.workers, self.options = name, minutes, workers, options
        self.refusal = ""  # the reason why SLURM did not accept a job

    def alive(self) -> dict[str, str] | None:
        """Job -> state, for the jobs in the queue; None if SLURM does not answer."""
        words = ["squeue", "--noheader", "--array", "--format", "%i|%T", "--name", self.name]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode:
            return None
        return dict(line.strip().split("|", 1) for line in answer.stdout.splitlines() if "|" in line)  # type: ignore[misc]

    @property
    def nowhere(self) -> bool:
        """Whether SLURM did not accept a job because no node is left that can run it."""
        return NO_NODE in self.refusal

    def cancel(self) -> None:
        """Cancel the jobs of the run."""
        subprocess.run(["scancel", "--name", self.name], check=False)

    def submit(
        self, job: Job, book: Book, parts: Sequence[Part], after: Sequence[str] = ()
    ) -> tuple[list[str], list[Part]]:
        """Submit a job for each of `parts`. The jobs start when the arrays `after` have ended, with or without success.

        Returns the numbers of the arrays, and the parts that SLURM did not accept, for example because a user may only
        queue a limited number of jobs.
        """
        import submitit

        folder, arrays = job.folder, list[str]()
        folder.logs.mkdir(parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(folder.logs, max_num_timeout=TIMEOUTS)
        for start in range(0, len(parts), LONGEST):
            some = parts[start : start + LONGEST]
            before = arrays[-1:] if self.workers and arrays else after  # otherwise each array would run `workers` jobs
            executor.update_parameters(
                job_name=self.name,
                time=self.minutes,
                array_parallelism=self.workers or LONGEST,
                setup=[
                    f'export PYTHONPATH="{ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"',
                    # srun of SLURM 22.05 and later reads the number of a job's cores only from this variable
                    'if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi',
                ],
                additional_parameters={"requeue": True, **self.options, **self._excluded(book)},
                dependency=f"afterany:{':'.join(before)}" if before else None,
            )
            try:
                jobs = executor.map_array(job, some) if len(some) > 1 else [executor.submit(job, some[0])]
            except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
                self.refusal = str(error)
                return arrays, [*parts[start:]]
            for one, part in zip(jobs, some, strict=True):
                book.give(one.job_id, part)
            arrays.append(jobs[0].job_id.partition("_")[0])
            folder.note(book.state(job.signed))
        return arrays, []

    def exclude(self, book: Book) -> None:
        """Have jobs that are queued already not begin on nodes that refuse, either."""
        queued = {job.partition("_")[0] for job, state in (self.alive() or {}).items() if state == "PENDING"}
        for job in sorted(queued):
            words = ["scontrol", "update", f"JobId={job}", f"ExcNodeList={self._excluded(book)['exclude']}"]
            subprocess.run(words, check=False, capture_output=True)  # those that have begun meanwhile do as they do

    def _excluded(self, book: Book) -> dict[str, str]:
        own = [self.options["exclude"]] if "exclude" in self.options else []
        return {"exclude": ",".join([*own, *book.excluded])} if book.excluded else {}


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
