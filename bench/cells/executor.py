"""Runs cells: every cell ends in a result, a failed one too."""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from safetensors import SafetensorError

from bench.cells import evidence
from bench.cells.artifacts import Report, Stages
from bench.cells.outcomes import ACCURACY, Outcomes
from bench.core.store import Entry, TensorsDiscarded
from bench.core.task import Task
from bench.plan.plan import Cell, Plan
from bench.worlds import World
from metrics import METRICS, Evidence, Metric

FILES = (OSError, SafetensorError)  # what writing and reading fails with


class Executor:
    """Runs the cells of a plan, one after the other, in this process.

    Args:
        plan: what to run.
        report: told about progress within a cell.
    """

    def __init__(self, plan: Plan, report: Report = lambda what, done, total: None) -> None:
        self.plan, self._report = plan, report
        self.adopt(None)

    def adopt(self, machine: Mapping[str, Any] | None) -> None:
        """See the store as `machine` does, described by `bench.core.device.describe`: its results. None: this machine.

        Then nothing is to be computed here.
        """
        stages = self.stages = Stages(self.plan, self._report, machine)
        self.outcomes = Outcomes(self.plan, stages.keys, stages.store)
        _ = self.outcomes.fingerprint  # judges that can't be had are no failure of a cell

    def run(self, cell: Cell) -> dict[str, Any]:
        """The cell's result: from the store, or computed now. A failure becomes a result too, with its traceback."""
        outcomes = self.outcomes
        if outcomes.finished(found := outcomes.stored(cell)):
            return found
        self.stages.store.drop("failures", outcomes.failure_key(cell))
        try:
            self._evaluate_whole(cell)
        except Exception as error:
            reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
            again = isinstance(error, FILES)  # a full disk, a file system that is away: no fault of the method
        else:
            return outcomes.stored(cell)
        self.stages.release()  # not before the error is gone, whose frames hold what it computed with
        return outcomes.failed(cell, reason, text, again=again)

    def _evaluate_whole(self, cell: Cell) -> None:
        """Evaluate, and give up weights that are no longer of use; those given up too early are made once more."""
        try:
            self._evaluate(cell)
        except TensorsDiscarded:
            self.stages.weights.remake(cell)
            self._evaluate(cell)
        with suppress(OSError):  # space alone is lost
            self.stages.weights.thin(cell)

    def _evaluate(self, cell: Cell) -> None:
        """Bring everything that the cell's result consists of into the store."""
        weights = self.stages.weights.of(cell)
        metrics = [METRICS.get(name) for name in self.plan.metrics]
        keys = {name: self.outcomes.score_key(cell, weights, name) for name in self.outcomes.names}
        store, new = self.stages.store, [m for m in metrics if not self.stages.store.get("scores", keys[m.name])]
        seen = evidence.gather(self.stages, cell.task, weights, {need for metric in new for need in metric.needs})
        store.stage("scores", keys[ACCURACY], lambda: ({}, {"concepts": self._accuracies(cell, seen)}))
        for metric in new:
            store.stage("scores", keys[metric.name], functools.partial(scored, metric, cell.task, seen))
        if self.plan.curve > 1:
            on_the_way = self.stages.weights.snapshots(cell)
            points = functools.partial(self._points, cell, weights, on_the_way)
            store.stage("scores", self.outcomes.curve_key(cell, weights, on_the_way), points)

    def _points(self, cell: Cell, last: Entry, between: list[Entry]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is stored of a curve: a point before the training, one after each part of it."""
        if not all(entry.facts["taken"] for entry in between):
            return {}, {"points": []}
        metrics = [metric for metric in map(METRICS.get, self.plan.metrics) if metric.along]
        before, points = self.stages.weights.before(cell), []
        for part, weights in enumerate((before, *between, last)):
            measured = part == 0 and (before is None or cell.task.after in self.plan.tasks)
            whole = measured or weights is last
            seen = evidence.along(self.stages, cell.task, weights, whole)
            scores = {metric.name: metric.compute(seen) for metric in metrics}
            values = {name: {"value": score.value, "n": score.n} if score else None for name, score in scores.items()}
            points.append({"part": part / (len(between) + 1), "scores": values})
        return {}, {"points": points}

    def _accuracies(self, cell: Cell, seen: Evidence) -> list[dict[str, Any]]:
        rows = []
        for concept in cell.task.concepts:
            accuracy, real = seen.accuracy([concept]), self.stages.reference(concept)
            rows.append(
                {
                    "concept": concept,
                    "role": role_of(concept, cell.task),
                    "distances": nearest_distances(self.plan.world, concept, cell.task),
                    "judge": real.facts["right"] / real.facts["count"],
                    "judge_n": real.facts["count"],
                    "judged_by": self.plan.world.judge_of(concept),
                    "accuracy": accuracy.value,
                    "n": accuracy.n,
                }
            )
        return rows

    def drop_forced(self) -> None:
        """Forget what --force computes again. Once, before cells run: they share images."""
        store, keys = self.stages.store, self.stages.keys
        if self.plan.recompute:
            store.clear("results")  # of any set of metrics; whoever reads them next puts them together again
        for cell in self.plan.cells:
            weights = store.get("deltas", keys.delta(cell))
            if cell.method not in self.plan.recompute or weights is None:
                continue
            for wanted in (None, self.stages.headnoun_specs(cell.task)[1]):
                store.drop("images", keys.images(weights, wanted))
            for name in self.outcomes.names:
                store.drop("scores", self.outcomes.score_key(cell, weights, name))
            parts = range(1, self.plan.curve)
            points = [store.get("snapshots", keys.snapshot(cell, part, self.plan.curve)) for part in parts]
            if points and all(points):
                store.drop("scores", self.outcomes.curve_key(cell, weights, [entry for entry in points if entry]))
        for cell in self.plan.cells:
            if cell.method in self.plan.recompute:
                self.stages.weights.drop(cell)


def scored(metric: Metric, task: Task, seen: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is stored of a metric: its score, and its mean over each concept's images if it is a mean over images.

    Raises ArithmeticError for a figure that is no number.
    """
    score = metric.compute(seen)
    if score and not math.isfinite(score.value):
        raise ArithmeticError(f"{metric.name} is {score.value}")
    facts: dict[str, Any] = {"score": {"value": score.value, "n": score.n} if score else None}
    if metric.each:
        values = metric.each(seen)
        facts["each"] = None if values is None else {c: seen.mean(values, [c]).value for c in task.concepts}
    return {}, facts


def nearest_distances(world: World, concept: str, task: Task) -> dict[str, float]:
    """By each measure of the world's, how far `concept` is from the nearest concept that the task forgets."""
    each = [world.distances(concept, target) for target in task.forget]
    return {name: min(d[name] for d in each if name in d) for name in dict.fromkeys(n for d in each for n in d)}


def role_of(concept: str, task: Task) -> str:
    """ "forget", "in_domain" or "out_of_domain"."""
    for role in ("forget", "in_domain", "out_of_domain"):
        if concept in getattr(task, role):
            return role
    raise ValueError(f"{concept!r} plays no part in task {task.name!r}")
