"""The work of a worker process on a cluster. The process runs several work items and loads the networks once."""

from __future__ import annotations

import os

import torch

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.engines.base import WorkOutcome
from bench.engines.run_folder import RunFolder
from bench.plan.plan import resolve
from bench.plan.plugin_checks import InvalidEntry
from bench.plan.work_graph import WorkItem, signature, work_items

_ready: tuple[RunConfig, Executor, tuple[WorkItem, ...]] | None = None  # the run that this process works on


class OtherPlan(RuntimeError):
    """The code of a worker makes other work items from the run than the code of the process that submitted them."""


def ready(run: RunConfig, folder: RunFolder) -> tuple[Executor, tuple[WorkItem, ...]]:
    """The executor and the work items of the run. This process makes them for its first work item and keeps them.

    Raises OtherMachine if the run uses another kind of machine, and every exception of `bench.plan.plan.resolve`.
    """
    global _ready
    if _ready is None or _ready[0] != run:
        if cores := os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(cores))
        executor = Executor(resolve(run))
        folder.claim(executor.context.machine)
        _ready = run, executor, work_items(executor.plan)
    return _ready[1:]


def work(run: RunConfig, folder: RunFolder, unit: int, signed: str) -> WorkOutcome:
    """Do a unit of the run. Its outcome has the result of a cell, or none for what cells share.

    Raises OtherPlan where the unit means something else here than to the shell, whose units are `signed`.
    """
    executor, pieces = ready(run, folder)
    if signature(pieces, executor.outcomes.signature) != signed:
        raise OtherPlan("code, plug-ins or oracles changed after the run started: stop it and start it again")
    piece, artifacts = pieces[unit], executor.artifacts
    if piece.cell is not None:
        cell = executor.plan.cells[piece.cell]
        try:
            return WorkOutcome(executor.run(cell))
        except InvalidEntry as error:  # the world can't be measured; here no command is left that could say so
            return WorkOutcome(executor.outcomes.failed(cell, str(error)))
    if piece.start is not None:
        artifacts.weights.before(executor.plan.cells[piece.start])
    elif piece.concept:
        artifacts.latents.of_concepts((piece.concept,), executor.plan.protocol.forget_images)
    else:
        artifacts.judgements(artifacts.images(None))
    return WorkOutcome()
