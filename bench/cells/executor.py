"""Runs cells. Every cell has a result at the end; a cell that fails has a result that gives the reason."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from safetensors import SafetensorError

from bench.cells import evidence
from bench.cells.artifact import Report
from bench.cells.artifacts import Artifacts, Context
from bench.cells.checks import recognition, start
from bench.cells.images import caption_specs, headnoun_specs
from bench.cells.outcomes import Outcomes
from bench.core.results import CellResult
from bench.core.store import TensorsDiscarded
from bench.plan.plan import Cell, Plan
from bench.plan.plugin_checks import InvalidEntry
from methods import CONTROLS
from metrics import METRICS

# errors of reading and writing files; another process may discard tensors while this one reads them
FILES = (OSError, SafetensorError, TensorsDiscarded)


class Executor:
    """Runs the cells of a plan, one after the other, in this process.

    Args:
        plan: the plan of the run.
        report: is called with the progress within a cell.

    Raises WorldUnavailable if a judge can't be loaded.
    """

    def __init__(self, plan: Plan, report: Report = lambda what, done, total: None) -> None:
        self.plan, self._report, self._judges_known = plan, report, False
        self.adopt(None)

    def adopt(self, machine: Mapping[str, Any] | None) -> None:
        """Read the results of another machine from the store. Afterwards this process must not compute anything.

        Args:
            machine: the machine, as described by `bench.core.device.describe`; None for this machine.
        """
        self.context = Context(self.plan, self._report, machine)
        self.artifacts = Artifacts(self.context)
        self.outcomes = Outcomes(self.artifacts)
        _ = self.outcomes.fingerprint  # loads the judges now: if one is missing, the run fails and not each cell

    @property
    def unfinished(self) -> bool:
        """Whether the store lacks the result of a cell."""
        return not all(self.outcomes.finished(self.outcomes.stored(cell)) for cell in self.plan.cells)

    def check(self, references: bool) -> None:
        """Check the world before anything is drawn, unless all cells are finished. Call it before the first cell.

        Args:
            references: whether the cells run on this machine, so that reference images may be read now.

        Raises InvalidEntry for a world whose figures would be wrong.
        """
        if self.unfinished:
            start.require_valid(self.context, references)

    def run(self, cell: Cell) -> CellResult:
        """The cell's result, from the store or computed now. If the cell fails, the result contains the traceback.

        Raises InvalidEntry if the images of the untouched model show that a judge does not know its concepts. Then no
        method is trained.
        """
        outcomes = self.outcomes
        try:
            if not outcomes.finished(result := outcomes.stored(cell)):
                self.artifacts.store.drop("failures", outcomes.failure_key(cell))
                self._require_known(cell)
                self._evaluate_whole(cell)
                result = outcomes.stored(cell)
            if not outcomes.finished(result):  # another run gave --force
                raise FileNotFoundError("another process removed entries of this cell from the store")
            with suppress(OSError):  # a failure only wastes disk space
                self.artifacts.weights.discard(cell)
            return result
        except InvalidEntry:
            raise
        except (Exception, SystemExit) as error:  # code that a plug-in calls may exit
            reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
            retry = isinstance(error, FILES)  # a full disk or an unavailable file system: the method did not fail
        self.context.release()  # after the except block: the frames of the error keep tensors alive
        return outcomes.failed(cell, reason, text, retry=retry)

    def _require_known(self, cell: Cell) -> None:
        """Check the judges on the images of the untouched model, once. The other control needs not wait for these."""
        if self._judges_known or (cell.method in CONTROLS and cell.method != CONTROLS[0]):
            return
        recognition.require_known(self.context, compute=True)
        self._judges_known = True

    def _evaluate_whole(self, cell: Cell) -> None:
        """Evaluate the cell. If weights that the evaluation needs were discarded before, they are computed again."""
        try:
            self._evaluate(cell)
        except TensorsDiscarded:
            self.artifacts.weights.drop_discarded(cell)
            self._evaluate(cell)

    def _evaluate(self, cell: Cell) -> None:
        """Compute everything that the cell's result consists of, unless the store has it."""
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
        """Remove the entries that --force computes again. Call it once, before any cell runs: cells share images."""
        artifacts, curve = self.artifacts, self.plan.curve
        if self.plan.recompute:
            artifacts.store.clear("results")  # for every set of metrics; `Outcomes` builds them again from the figures
        for cell in self.plan.cells:
            weights = artifacts.store.get("deltas", artifacts.weights.key(cell))
            if cell.method not in self.plan.recompute or weights is None:
                continue
            for specs in (None, headnoun_specs(self.plan, cell.task)[1], caption_specs(self.plan)):
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
