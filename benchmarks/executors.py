"""Measures the overhead of each executor, with cells that do nothing.

    python -m benchmarks.executors                    # 1,000 cells on this machine and on Ray
    python -m benchmarks.executors --scale 10000      # also time plan and collect for a board of 10,000 cells

The result is the time until the first result, and the seconds per cell after that, with one worker. SLURM is measured
only on a SLURM cluster; its result is the scheduling time per job. --scale times `plan` before the first cell, fills a
store with copies of one cell's result, and then times `plan` and `collect`, each in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.engines import Engine, Settings, local
from bench.engines.base import WorkOutcome
from bench.engines.local import Local
from bench.engines.ray import Ray
from bench.engines.ray_actor import Work
from bench.engines.slurm import Slurm
from bench.engines.slurm_queue import Job
from bench.plan.plan import Plan, resolve

DOOR = str(Path(__file__).parents[1] / "run_bench.py")


def nothing(orders: object, unit: int) -> WorkOutcome:
    """The result of a worker that does nothing."""
    return WorkOutcome(CellResult("", "", 0, "", "", "", "", status="failed", reason="nothing was to be done"))


class IdleRay(Ray):
    """Ray with tasks that do nothing."""

    unit: ClassVar[Work] = staticmethod(nothing)


class IdleJob(Job):
    """A job that does nothing."""

    def work(self, place: int) -> WorkOutcome:
        """Nothing."""
        return nothing(self.run, place)


class IdleSlurm(Slurm):
    """Jobs that do nothing."""

    job = IdleJob


LITTLE = {  # for a real cell in seconds
    "mimmu": {"epochs": "none", "steps": "1"},
    "protocol": {"images_per_concept": "2", "forget_images": "2", "num_inference_steps": "2", "probe_timesteps": "2"},
}
IDLE: dict[str, type[Engine]] = {"local": Local, "ray": IdleRay, "slurm": IdleSlurm}


def plan_of(cells: int, out: Path) -> Plan:
    """A plan with about `cells` cells of the pocket world: three per seed."""
    return resolve(RunConfig(("mimmu",), "smoke", seeds=tuple(range(-(-cells // 3))), out=out))


def _begin(run: RunConfig, threads: int) -> None:
    """Start a worker process that loads no network."""


def _nothing_here(index: int) -> CellResult | None:
    return nothing(None, index).result


def overhead(name: str, settings: Settings, cells: int) -> tuple[float, float, int]:
    """Seconds until the first result, seconds per cell after that, and the number of cells."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(local, _work=_nothing_here, _start=_begin):
        executor = Executor(plan_of(cells, Path(folder)))
        stamps = [time.perf_counter()]
        for _ in IDLE[name](settings).run(executor, lambda status: None):
            stamps.append(time.perf_counter())
    return stamps[1] - stamps[0], (stamps[-1] - stamps[1]) / max(1, len(stamps) - 2), len(stamps) - 1


def little(out: Path) -> RunConfig:
    """A run with nine tasks and three methods, whose cells take a second."""
    return RunConfig(("mimmu",), "finegrained", out=out, overrides=LITTLE)


def fill(run: RunConfig) -> None:
    """Store a result for every cell of the run: copies of the results of the first three cells."""
    plan = resolve(run)
    real = Executor(dataclasses.replace(plan, cells=plan.cells[:3]))
    found = {cell.method: real.run(cell) for cell in plan.cells[:3]}
    if bad := [result.reason for result in found.values() if not result.ok]:
        raise RuntimeError(bad[0])
    weights_of, store, outcomes = real.artifacts.weights, real.artifacts.store, real.outcomes
    for cell in plan.cells[3:]:
        model = next(one for one in plan.cells[:3] if one.method == cell.method)
        weights = store.get("deltas", weights_of.key(model))
        assert weights
        parts = store.get("results", outcomes.result_key(model, weights))
        assert parts
        own = store.put("deltas", weights_of.key(cell), facts=weights.facts)  # who collects reads no weights
        facts = {name: under_names_of(cell.task.concepts, part) for name, part in parts.facts.items()}
        store.put("results", outcomes.result_key(cell, own), facts=facts)


def under_names_of(concepts: Sequence[str], part: dict[str, Any]) -> dict[str, Any]:
    """The figures of one task under the concepts of another task. Concepts without figures get the first ones."""
    if "concepts" in part:
        rows = {row["concept"]: row for row in part["concepts"]}
        return {"concepts": [{**rows.get(c, part["concepts"][0]), "concept": c} for c in concepts]}
    if not part.get("each"):
        return part
    some = next(iter(part["each"].values()))
    return {**part, "each": {concept: part["each"].get(concept, some) for concept in concepts}}


@dataclass(frozen=True)
class Use:
    """The time and memory of a command: seconds, peak resident memory in MB, and the process's own part of it in MB.

    The other part is pages of library files, which processes share.
    """

    seconds: float
    resident: int
    own: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.resident} MB ({self.own} MB of its own)"


def timed(words: Sequence[str]) -> Use:
    """Measure a Python command on Linux. Raises CalledProcessError if the command fails."""
    began, resident, own = time.perf_counter(), 0, 0
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        told = Path(f"/proc/{process.pid}/status").read_text()
        held = {name: int(kilobytes) for name, kilobytes in re.findall(r"^(\w+):\s*(\d+) kB$", told, re.MULTILINE)}
        resident, own = max(resident, held.get("VmHWM", 0)), max(own, held.get("RssAnon", 0))  # of the dead: nothing
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return Use(seconds, resident // 1024, own // 1024)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m benchmarks.executors`."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.executors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--cells", type=int, default=1000, metavar="N", help="that do nothing (default: %(default)s)")
    p.add_argument("--executors", nargs="+", default=["local", "ray"], choices=IDLE)
    p.add_argument("--scale", type=int, metavar="N", help="plan and collect a board of so many cells")
    args = p.parse_args(argv)
    for name in args.executors:
        options = {"ray": {"address": "local", "num_cpus": "1"}, "slurm": {"time": "30"}}.get(name, {})
        workers = 2 if name == "local" else None
        first, each, count = overhead(name, Settings(workers, options=options), args.cells)
        print(f"{name}: {count} cells, first after {first:.1f} s, then {each * 1000:.1f} ms a cell", flush=True)
    if args.scale:
        with tempfile.TemporaryDirectory() as folder:
            run = dataclasses.replace(little(Path(folder)), seeds=tuple(range(-(-args.scale // (3 * 9)))))
            base = ["--methods", *run.methods]
            base += ["--set", *(f"{name}.{key}={value}" for name, of in LITTLE.items() for key, value in of.items())]
            base += ["--seeds", str(len(run.seeds)), "--out", folder]
            print(f"import torch: {timed(['-c', 'import torch'])}")
            print(f"plan: {len(resolve(run).cells)} cells, none stored: {timed([DOOR, 'plan', *base])}", flush=True)
            fill(run)
            for command in ("plan", "collect"):
                print(f"{command}: all of them stored: {timed([DOOR, command, *base])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
