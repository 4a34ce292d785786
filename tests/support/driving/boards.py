"""Whole runs on the CPU and on the pretended device: every figure of their results is the same but for rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.plan.plan import Cell, Plan, resolve
from support import pretended
from support.differences import differences
from support.pretended import NotDrivable

Select = Callable[[Plan], Iterable[Cell]]
SMALL = {
    "precision": "fp32", "images_per_concept": "1", "num_inference_steps": "2", "forget_images": "2",
    "retain_images": "1", "finetune_steps": "1", "finetune_pictures": "2", "finetune_batch": "2",
    "probe_timesteps": "2", "reference_per_concept": "2", "curve_images": "1",
}  # fmt: skip
TRAINING = {"epochs": "1", "batch_size": "2", "parameters": "attn2-kv"}  # rounding hardly moves these weights


def kinds(plan: Plan) -> list[Cell]:
    """One cell of each kind, for each method: how many concepts, how long a sequence, which further training."""
    found: dict[object, Cell] = {}
    for cell in plan.cells:
        task = cell.task
        kind = plan.base_method(cell.method), len(task.request) > 1, min(len(task.chain), 2), task.finetune
        found.setdefault(kind, cell)
    return [*found.values()]


def every(plan: Plan) -> Iterable[Cell]:
    """All cells."""
    return plan.cells


def measured(run: RunConfig, select: Select = every) -> dict[str, Any]:
    """The figures of the selected cells of a run, by the cell's name. Raises AssertionError for a cell that failed."""
    executor = Executor(resolve(run))
    executor.check(references=True)
    found = {}
    for cell in select(executor.plan):
        result = executor.run(cell)
        if result.reason.startswith(NotDrivable.__name__):
            raise NotDrivable(result.reason)
        assert result.ok, f"{cell.name}: {result.reason} ({result.traceback})"
        found[cell.name] = {
            "scores": {name: score and dataclasses.asdict(score) for name, score in result.scores.items()},
            "concepts": [dataclasses.asdict(concept) for concept in result.concepts],
            "curve": [dataclasses.asdict(point) for point in result.curve or ()],
            "data": dict(result.data),
            "steps": result.cost["steps"],
        }
    return found


def check_run(run: RunConfig, folder: Path, select: Select = every) -> tuple[pretended.Account, dict[str, Any]]:
    """A run has the same figures on both devices. Returns the account of the pretended one, and the CPU's figures.

    Args:
        run: the run, whose `out` is replaced.
        folder: an empty folder for both stores.
        select: the cells to run.
    """
    here = measured(dataclasses.replace(run, out=folder / "cpu"), select)
    with pretended.cuda() as account:
        there = measured(dataclasses.replace(run, out=folder / "cuda"), select)
    assert account.launches
    apart = [line for name in here for line in differences(name, here[name], there[name])]
    assert not apart, "\n".join(apart)
    return account, here
