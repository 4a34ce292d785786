"""What it costs that a cell is handed out, computed elsewhere and collected: cells that do nothing, by each executor.

    python -m benchmarks.executors                    # 1,000 cells on this machine and on Ray
    python -m benchmarks.executors --scale 10000      # and plan, and collect, a board of so many cells

Seconds a cell with one worker, from the first result to the last, beside what the workers' start took. A SLURM cluster
is asked only where there is one: its own scheduling, seconds a job, is what is measured then. --scale writes a store of
so many finished cells, results of one copied, and times `--plan` and `--collect` on it, each in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from bench.config import RunConfig
from bench.engines import Engine, Settings, local
from bench.engines.local import Local
from bench.engines.ray import Ray, Work
from bench.engines.slurm import Job, Slurm
from bench.executor import ACCURACY, Executor
from bench.plan import Plan, resolve

DOOR = str(Path(__file__).parents[1] / "run_bench.py")


def nothing(orders: object, unit: int) -> dict[str, Any]:
    """In place of what a worker does."""
    return {"status": "failed", "reason": "nothing was to be done", "fingerprint": "", "traceback": ""}


class IdleRay(Ray):
    """Tasks that do nothing."""

    unit: ClassVar[Work] = staticmethod(nothing)


class IdleJob(Job):
    """A job that does nothing."""

    def work(self, place: int) -> dict[str, Any]:
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
    """A plan of about so many cells of the pocket world: three a seed."""
    return resolve(RunConfig(("mimmu",), "smoke", seeds=tuple(range(-(-cells // 3))), out=out))


def _begin(run: RunConfig, threads: int) -> None:
    """A worker process that loads no network."""


def _nothing_here(index: int) -> dict[str, Any]:
    return nothing(None, index)


def overhead(name: str, settings: Settings, cells: int) -> tuple[float, float, int]:
    """Seconds until the first result, seconds for each of the others, and how many cells there were."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(local, _work=_nothing_here, _start=_begin):
        executor = Executor(plan_of(cells, Path(folder)))
        stamps = [time.perf_counter()]
        for _ in IDLE[name](settings).run(executor, lambda status: None):
            stamps.append(time.perf_counter())
    return stamps[1] - stamps[0], (stamps[-1] - stamps[1]) / max(1, len(stamps) - 2), len(stamps) - 1


def filled(cells: int, out: Path) -> RunConfig:
    """A run of about `cells` cells whose store has a result for each: one real cell's, under every cell's keys."""
    one = RunConfig(("mimmu",), "finegrained", out=out)
    few = dataclasses.replace(one, overrides=LITTLE)
    run = dataclasses.replace(few, seeds=tuple(range(-(-cells // (3 * 9)))))
    plan = resolve(run)
    real = Executor(dataclasses.replace(plan, cells=plan.cells[:3]))
    found = {cell.method: real.run(cell) for cell in plan.cells[:3]}
    if bad := [result["reason"] for result in found.values() if result["status"] != "ok"]:
        raise RuntimeError(bad[0])
    keys, store, names = real.stages.keys, real.stages.store, (ACCURACY, *plan.metrics)
    for cell in plan.cells[3:]:
        model = next(one for one in plan.cells[:3] if one.method == cell.method)
        weights = store.get("deltas", keys.delta(model))
        assert weights
        own = store.put("deltas", keys.delta(cell), facts=weights.facts)  # who collects reads no weights
        for name in names:
            entry = store.get("scores", real.score_key(model, weights, name))
            assert entry
            key, facts = real.score_key(cell, own, name), entry.facts
            if name == ACCURACY:
                rows = {row["concept"]: row for row in facts["concepts"]}
                some = next(iter(rows.values()))
                facts = {"concepts": [{**rows.get(c, some), "concept": c} for c in cell.task.concepts]}
            if facts.get("each"):
                any_ = next(iter(facts["each"].values()))
                facts = {**facts, "each": {c: facts["each"].get(c, any_) for c in cell.task.concepts}}
            store.put("scores", key, facts=facts)
    return run


def timed(words: Sequence[str]) -> tuple[float, int]:
    """Seconds and the most megabytes of a command of its own."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    began = time.perf_counter()
    asked = [sys.executable, "-c", code, sys.executable, *words]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    if told.stderr:
        raise RuntimeError(told.stderr)
    return time.perf_counter() - began, int(told.stdout) // 1024


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
            run = filled(args.scale, Path(folder))
            base = ["--methods", *run.methods]
            base += ["--set", *(f"{name}.{key}={value}" for name, of in LITTLE.items() for key, value in of.items())]
            base += ["--seeds", str(len(run.seeds)), "--out", folder]
            torch = timed(["-c", "import torch"])
            for flag in ("--plan", "--collect"):
                seconds, most = timed([DOOR, *base, flag])
                print(f"{flag}: {len(resolve(run).cells)} cells in {seconds:.1f} s, {most} MB", flush=True)
            print(f"of which `import torch` alone: {torch[0]:.1f} s, {torch[1]} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
