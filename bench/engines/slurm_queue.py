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

MAX_ARRAY_JOBS = 1000  # jobs of an array: by default a cluster accepts 1001
TIMEOUTS = 100  # how often a job that reached its time limit is submitted again
NO_NODE = "node configuration is not available"  # a message of sbatch
Part = tuple[int, ...]  # the work items of one job


class Book:
    """A record of the work items of each job, of the attempts, and of the nodes that refused a work item.

    Args:
        state: what `state` returned in an earlier command; empty for a new run.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.jobs: dict[str, Part] = {job: tuple(places) for job, places in state.get("jobs", {}).items()}
        self.refused = Counter({int(place): count for place, count in state.get("refused", {}).items()})
        self.excluded: list[str] = list(state.get("excluded", ()))  # nodes
        self._given = Counter(place for places in self.jobs.values() for place in places)
        self._last = {place: job for job, places in self.jobs.items() for place in places}

    def give(self, job: str, places: Part) -> None:
        """Record the work items of a job."""
        self.jobs[job] = places
        self._given.update(places)
        self._last |= dict.fromkeys(places, job)

    def refuse(self, place: int, node: str) -> None:
        """Record that a node refused a work item. A refusal does not count as an attempt."""
        self.refused[place] += 1
        self.excluded += [] if node in self.excluded else [node]

    def attempts(self, place: int) -> int:
        """Number of attempts at a work item."""
        return self._given[place] - self.refused[place]

    @property
    def given(self) -> set[int]:
        """The work items that belong or belonged to a job."""
        return {*self._given}

    def job_of(self, place: int) -> str:
        """The last job of a work item."""
        return self._last[place]

    def state(self, signed: str) -> dict[str, Any]:
        """The record as JSON types, for another command. `signed` is the signature of the work items."""
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
        """The outcome of one work item: a refusal if this node is another kind of machine than the run's."""
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
        for start in range(0, len(parts), MAX_ARRAY_JOBS):
            some = parts[start : start + MAX_ARRAY_JOBS]
            before = arrays[-1:] if self.workers and arrays else after  # otherwise each array would run `workers` jobs
            executor.update_parameters(
                job_name=self.name,
                time=self.minutes,
                array_parallelism=self.workers or MAX_ARRAY_JOBS,
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
        """Keep jobs that are already queued away from nodes that refused a work item."""
        queued = {job.partition("_")[0] for job, state in (self.alive() or {}).items() if state == "PENDING"}
        for job in sorted(queued):
            words = ["scontrol", "update", f"JobId={job}", f"ExcNodeList={self._excluded(book)['exclude']}"]
            subprocess.run(words, check=False, capture_output=True)  # jobs that have started meanwhile are not changed

    def _excluded(self, book: Book) -> dict[str, str]:
        own = [self.options["exclude"]] if "exclude" in self.options else []
        return {"exclude": ",".join([*own, *book.excluded])} if book.excluded else {}


def last_words(log: Path) -> str:
    """A text for people: the last line of a job's log, which often says why the job ended."""
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
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
