"""What a worker process of a cluster does: one unit of a run after another, with what it has loaded."""

from __future__ import annotations

import os
from typing import Any

import torch

from bench.config import RunConfig
from bench.executor import Executor
from bench.plan import resolve
from bench.runs import RunFolder
from bench.units import Unit, units

_ready: tuple[RunConfig, Executor, tuple[Unit, ...]] | None = None  # of this process


def ready(run: RunConfig) -> tuple[Executor, tuple[Unit, ...]]:
    """The run's executor and units in this process: made with its first unit, and kept for those that follow.

    Raises OtherMachine, and whatever `bench.plan.resolve` raises.
    """
    global _ready
    if _ready is None or _ready[0] != run:
        if cores := os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(cores))
        executor = Executor(resolve(run))
        RunFolder(run).claim(executor.stages.machine)
        _ready = run, executor, units(executor.plan)
    return _ready[1:]


def work(run: RunConfig, unit: int) -> dict[str, Any]:
    """Do a unit of the run. Returns the result of a cell, and {} for what cells share."""
    executor, pieces = ready(run)
    piece, stages = pieces[unit], executor.stages
    if piece.cell is not None:
        return executor.run(executor.plan.cells[piece.cell])
    if piece.concept:
        stages.weights.drawn((piece.concept,), executor.plan.protocol.forget_images)
    else:
        stages.judgements(stages.images(None))
    return {}
