"""Benchmarks of whole runs through the command line: startup, an added method, and parallel workers."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.engines import Settings
from bench.engines.local import Local
from bench.plan.plan import resolve
from benchmarks import memory, one_step
from benchmarks.one_step import Load
from benchmarks.rows import Setting
from benchmarks.timing import Line, by_turns, cores, ratios, seconds_of

DOOR = str(Path(__file__).parent.parent / "run_bench.py")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the boards and the store of one row."""
    with tempfile.TemporaryDirectory(prefix="lethe-benchmark-") as made:
        yield Path(made)


def adding(setting: Setting) -> list[Line]:
    """Seconds of a run, of the run with one more method, and of the same run again, without the time of imports."""
    arguments = ["--world", setting.world.name, "--suite", "smoke", "--workers", "1", "--methods"]

    def run(*methods: str) -> tuple[float, int]:
        before = stages(out)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            taken = seconds_of(lambda: codes.append(main.main([*arguments, *methods, "--out", str(out)])))
        if codes[-1]:
            raise RuntimeError(f"the run failed:\n{said.getvalue()}")
        return taken, stages(out) - before

    codes: list[int] = []
    with folder() as out:
        runs = {
            "a first run: two controls and mimmu": run("mimmu"),
            "the run again with salun added": run("mimmu", "salun"),
            "and again with nothing new": run("mimmu", "salun"),
        }
    return [Line("adding", what, (s,), unit="s", note=f"new stages: {new}") for what, (s, new) in runs.items()]


def stages(out: Path) -> int:
    """The number of stages in the store."""
    return len(list((out / ".store").glob("*/*/record.json")))


def starting(setting: Setting) -> list[Line]:
    """Seconds from the start of the process to the first training step, and to answers without training."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def door(*arguments: str) -> float:
        done = []

        def call() -> None:
            done.append(subprocess.run([sys.executable, DOOR, *arguments], env=environment, capture_output=True))

        taken = seconds_of(call)
        if done[0].returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done[0].stdout.decode()}{done[0].stderr.decode()}")
        return taken

    def first_step(count: int) -> float:
        """Train one step on stored latents. Its weights are the first entry that such a run writes."""
        known = {f.stat().st_mtime_ns for f in out.glob(".store/deltas/*/record.json")}
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, DOOR, *once, "--force", "--workers", str(count)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        taken = None
        while child.poll() is None:
            if taken is None and any(
                f.stat().st_mtime_ns not in known for f in out.glob(".store/deltas/*/record.json")
            ):
                taken = time.perf_counter() - began
            time.sleep(0.02)
        if taken is None or child.returncode:
            raise RuntimeError(f"the run trained nothing, or failed (exit status {child.returncode})")
        return taken

    rounds = max(1, setting.rounds // 2)
    with folder() as out:
        once = ["--world", setting.world.name, "--suite", "smoke", "--methods", "mimmu", "--out", str(out)]
        once += ["--set", "mimmu.epochs=none", "mimmu.steps=1"]
        door(*once, "--workers", "1")
        alone = tuple(first_step(1) for _ in range(rounds))
        shared = tuple(first_step(2) for _ in range(rounds))
    lines = [
        Line("start", "first training step of a run, one worker", alone, "s", 8, True, "forget set stored"),
        Line("start", "first training step of a run, two workers", shared, "s", note="a worker starts anew"),
    ]
    for arguments in (("--help",), ("ls", "methods")):
        lines.append(Line("start", " ".join(arguments), tuple(door(*arguments) for _ in range(rounds)), "s"))
    return lines


def peaks(setting: Setting) -> list[Line]:
    """Peak memory of a training step of each method at its own batch size, and of drawing, each in its own process."""
    backbone = setting.backbone
    side = max(backbone.latent_shape) * backbone.pipeline.vae_scale_factor
    load, lines = Load(size=side, batch=None, images=setting.images), []
    for name in (*one_step.stepping_methods(), memory.SAMPLING):
        peak = memory.measure(setting.world.backbone(), name, load)
        if peak.why:
            raise RuntimeError(f"{name}: {peak.why}")
        held = "resident, libraries included" if peak.reserved is None else f"reserved {peak.reserved / memory.GIB:.2f}"
        size = f"batch {setting.images}" if peak.trained is None else f"a step of {one_step.batch_of(name, load)}"
        lines.append(Line("memory", f"peak of {name}", (peak.allocated / memory.GIB,), "GiB", note=f"{size}; {held}"))
    return lines


def sharing(setting: Setting, cells: int = 4) -> list[Line]:
    """Cells per minute with one single-threaded worker per thread, against one worker with all threads.

    Time starts when the workers are up, which the cells of the controls show.
    """
    count, seeds, kept = cores(), iter(range(1000)), torch.get_num_threads()
    if count < 2:
        return []  # there is nothing to share

    def cost(processes: int) -> float:
        mine = tuple(next(seeds) for _ in range(cells))
        run = RunConfig(suite="smoke", world=setting.world.name, seeds=mine, out=out)
        controls = Executor(resolve(dataclasses.replace(run, methods=("pretrained",))))
        list(Local(Settings(1)).run(controls, lambda status: None))
        run = dataclasses.replace(run, methods=("mimmu",), overrides=long)
        plan, stamps = resolve(run), {}
        for index, result in Local(Settings(processes)).run(Executor(plan), lambda status: None):
            if not result.ok:
                raise RuntimeError(result.reason)
            stamps[index] = time.perf_counter()
        up = sorted(stamps.values())[processes - 1]  # each worker begins with a control's cell, which the store has
        return (max(when for index, when in stamps.items() if plan.cells[index].method == "mimmu") - up) / cells

    long = {"mimmu": {"epochs": "none", "steps": "20", "batch_size": "16"}}
    torch.set_num_threads(count)  # what there is for all workers together
    try:
        with folder() as out:
            one, many = by_turns(lambda: cost(1), lambda: cost(count), max(1, setting.rounds // 2))
    finally:
        torch.set_num_threads(kept)
    rates = [60 / statistics.median(side) for side in (many, one)]
    note = f"{rates[0]:.1f} and {rates[1]:.1f} cells a minute"
    what = f"cells a minute: {count} workers of one thread / one worker of {count}"
    return [Line("sharing", what, ratios(one, many), note=note)]
