"""Runs cells: every cell ends in a result, a failed one too."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from safetensors import SafetensorError

from bench.cells import evidence
from bench.cells.artifact import Report
from bench.cells.artifacts import Artifacts, Context
from bench.cells.images import headnoun_specs
from bench.cells.outcomes import Outcomes
from bench.core.results import CellResult
from bench.core.store import TensorsDiscarded
from bench.plan.plan import Cell, Plan
from metrics import METRICS

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
        self.context = Context(self.plan, self._report, machine)
        self.artifacts = Artifacts(self.context)
        self.outcomes = Outcomes(self.artifacts)
        _ = self.outcomes.fingerprint  # judges that can't be had are no failure of a cell

    def run(self, cell: Cell) -> CellResult:
        """The cell's result: from the store, or computed now. A failure becomes a result too, with its traceback."""
        outcomes = self.outcomes
        if outcomes.finished(found := outcomes.stored(cell)):
            return found
        self.artifacts.store.drop("failures", outcomes.failure_key(cell))
        try:
            self._evaluate_whole(cell)
        except Exception as error:
            reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
            retry = isinstance(error, FILES)  # a full disk, a file system that is away: no fault of the method
        else:
            return outcomes.stored(cell)
        self.context.release()  # not before the error is gone, whose frames hold what it computed with
        return outcomes.failed(cell, reason, text, retry=retry)

    def _evaluate_whole(self, cell: Cell) -> None:
        """Evaluate, and discard weights that are no longer of use; those discarded too early are made once more."""
        try:
            self._evaluate(cell)
        except TensorsDiscarded:
            self.artifacts.weights.drop_discarded(cell)
            self._evaluate(cell)
        with suppress(OSError):  # space alone is lost
            self.artifacts.weights.discard(cell)

    def _evaluate(self, cell: Cell) -> None:
        """Bring everything that the cell's result consists of into the store."""
        artifacts = self.artifacts
        weights, score = artifacts.weights(cell), artifacts.metric_score
        metrics = [METRICS.get(name) for name in self.plan.metrics]
        new = [metric for metric in metrics if not artifacts.store.get(score.kind, score.key(metric, cell, weights))]
        seen = evidence.gather(self.context, cell.task, weights, {need for metric in new for need in metric.needs})
        artifacts.accuracies(cell, weights, seen)
        for metric in new:
            score(metric, cell, weights, seen)
        if self.plan.curve > 1:
            artifacts.curve(cell, weights, artifacts.weights.snapshots(cell))

    def drop_recomputed(self) -> None:
        """Remove what --force computes again. Once, before cells run: they share images."""
        artifacts, curve = self.artifacts, self.plan.curve
        if self.plan.recompute:
            artifacts.store.clear("results")  # of any set of metrics; whoever reads them next puts them together again
        for cell in self.plan.cells:
            weights = artifacts.store.get("deltas", artifacts.weights.key(cell))
            if cell.method not in self.plan.recompute or weights is None:
                continue
            for specs in (None, headnoun_specs(self.plan, cell.task)[1]):
                artifacts.images.drop(weights, specs)
            artifacts.accuracies.drop(cell, weights)
            for name in self.plan.metrics:
                artifacts.metric_score.drop(METRICS.get(name), cell, weights)
            points = [artifacts.snapshot.stored(cell, part, curve) for part in range(1, curve)]
            if points and all(points):
                artifacts.curve.drop(cell, weights, [entry for entry in points if entry])
        for cell in self.plan.cells:
            if cell.method in self.plan.recompute:
                artifacts.weights.drop(cell)
