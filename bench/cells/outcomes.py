"""Reads and writes the results of a run's cells in the store, and defines the keys of their figures."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from bench.cells import fingerprint
from bench.cells.artifacts import Artifacts
from bench.cells.judges import DEGENERATE
from bench.cells.scores import accuracy_stamp, metric_stamp
from bench.core import digest
from bench.core.config import Protocol
from bench.core.results import CellResult, ConceptResult, CurvePoint, FinetuningProbe, SequenceStep, scores_from_json
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan.plan import Cell
from metrics import METRICS

log = logging.getLogger(__name__)

ACCURACY = "accuracy"  # name of the figure that every cell has besides its metrics: the accuracy of each concept


class Outcomes:
    """The results of a plan's cells that the store has.

    Args:
        artifacts: the artifacts of the run.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self.artifacts, self.context = artifacts, artifacts.context
        self.plan, self.store = artifacts.plan, artifacts.store
        self.names = (ACCURACY, *self.plan.metrics)  # names of the figures of a cell

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the description of the run, for boards."""
        return fingerprint.short(self.context.description)

    def failed(
        self, cell: Cell, reason: str, traceback_text: str = "", log: str = "", retry: bool = False
    ) -> CellResult:
        """Store and return the result of a failed cell. If it can't be stored, it is returned nevertheless.

        Args:
            cell: the cell.
            reason: the reason for people.
            traceback_text: the traceback, which is written to a file that the result names.
            log: path of the log of the failed process, if there is no traceback.
            retry: whether another attempt may succeed.
        """
        key, store = self.failure_key(cell), self.store
        file = str(store.path("failures", key) / "traceback.txt") if traceback_text else log
        facts = {"method": cell.method, "task": cell.task.name, "seed": cell.seed, "status": "failed"}
        facts |= {"reason": reason, "traceback": file}
        texts = {"traceback.txt": traceback_text} if traceback_text else {}
        result = dataclasses.replace(self.not_run(cell), status="failed", reason=reason, traceback=file, retry=retry)
        try:
            store.drop("failures", key)
            store.put("failures", key, facts=facts, texts=texts)
        except OSError as error:
            unstored = f"{reason} (this failure could not be stored: {error})"
            return dataclasses.replace(result, reason=unstored, traceback=log)
        return result

    def relabel(self, cell: Cell, result: CellResult) -> CellResult:
        """The result with this run's fingerprint. A failure may have been stored before the workers' machine was known.

        A complete result is returned unchanged.
        """
        if result.ok:
            return result
        return dataclasses.replace(
            self.not_run(cell),
            status=result.status,
            reason=result.reason,
            traceback=result.traceback,
            retry=result.retry,
        )

    def stored(self, cell: Cell) -> CellResult:
        """The cell's result in the store. Its status is "not run" if there is no result."""
        weights, whole = self.artifacts.weights.stored(cell), None
        if weights is not None and (parts := self._parts(cell, weights)):
            whole = self._readable(cell, weights, parts)
            if whole is not None and not self.wants_curve(whole):
                return whole
        failure = self.store.get("failures", self.failure_key(cell))
        if failure is not None:
            reason, traceback = failure.facts["reason"], failure.facts["traceback"]
            return dataclasses.replace(self.not_run(cell), status="failed", reason=reason, traceback=traceback)
        return self.not_run(cell) if whole is None else whole

    def is_complete(self, cell: Cell, weights: Entry) -> bool:
        """Whether the store has the complete result of the cell with these `weights`. Usually no figure is read."""
        if not self.store.has("results", self.result_key(cell, weights)):
            return self.finished(self.stored(cell))  # the store may have all figures, but not their common entry
        return self.plan.curve < 2 or self._stored_curve(cell, weights) is not None

    def finished(self, result: CellResult) -> bool:
        """Whether a result is complete."""
        return result.ok and not self.wants_curve(result)

    def wants_curve(self, result: CellResult) -> bool:
        """Whether the run has a curve and the result lacks it."""
        return self.plan.curve > 1 and result.curve is None

    def entries(self, cell: Cell) -> list[tuple[str, dict[str, Any]]]:
        """Kind and key of each entry that a complete result is read from; empty if the result is not complete.

        A figure that the store has only in their common entry, for example because its own entry was damaged, is
        written again.
        """
        weights = self.artifacts.weights.stored(cell)
        if weights is None or not self.finished(self.stored(cell)):
            return []
        for name, facts in (self._parts(cell, weights) or {}).items():
            key = self.score_key(cell, weights, name)
            if self.store.get("scores", key) is None:
                with suppress(OSError):  # a read-only store
                    self.store.put("scores", key, facts=facts)
        keys = [("deltas", self.artifacts.weights.key(cell))]
        keys += [("scores", self.score_key(cell, weights, name)) for name in self.names]
        if self.plan.curve > 1:
            between = [
                ("snapshots", self.artifacts.snapshot.key(cell, i, self.plan.curve)) for i in range(1, self.plan.curve)
            ]
            known = [entry for kind, key in between if (entry := self.store.get(kind, key, verify=False))]
            keys += [*between, ("scores", self.curve_key(cell, weights, known))]
        return keys

    def _parts(self, cell: Cell, weights: Entry) -> dict[str, dict[str, Any]] | None:
        """Name -> facts of each figure; None if a figure is missing.

        All figures of a cell are also stored together in one entry. So reading thousands of cells opens one file for
        each cell, instead of twenty.
        """
        key = self.result_key(cell, weights)
        if whole := self.store.get("results", key):
            return whole.facts
        entries = {name: self.store.get("scores", self.score_key(cell, weights, name)) for name in self.names}
        parts = {name: entry.facts for name, entry in entries.items() if entry}
        if len(parts) < len(entries):
            return None
        with suppress(OSError):  # a full disk, or a read-only store
            self.store.put("results", key, facts=parts)
        return parts

    def _readable(self, cell: Cell, weights: Entry, parts: Mapping[str, dict[str, Any]]) -> CellResult | None:
        """The result; None if its entries are not of the form that this release writes. These are then removed.

        Records of earlier releases have no digest, so damage of their facts is found here.
        """
        try:
            return self._whole(cell, weights, parts)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            message = "the figures of %s are damaged (%s: %s); they will be computed again"
            log.warning(message, cell.name, type(error).__name__, error)
        if not {"cost", "data", "compensation"} <= weights.facts.keys():
            self.artifacts.weights.drop(cell)
        self.store.drop("results", self.result_key(cell, weights))
        for name in self.names:
            self.store.drop("scores", self.score_key(cell, weights, name))
        return None

    def _whole(self, cell: Cell, weights: Entry, parts: Mapping[str, dict[str, Any]]) -> CellResult:
        by_concept = {name: parts[name]["each"] for name in self.plan.metrics if "each" in parts[name]}
        concepts = [
            ConceptResult(
                **row, figures={name: values and values[row["concept"]] for name, values in by_concept.items()}
            )
            for row in parts[ACCURACY]["concepts"]
        ]
        return dataclasses.replace(
            self.not_run(cell),
            status="ok",
            scores=scores_from_json({name: parts[name]["score"] for name in self.plan.metrics}),
            concepts=tuple(concepts),
            curve=self._stored_curve(cell, weights),
            extractor=self._compared(),
            cost=weights.facts["cost"],
            data=weights.facts["data"],
            compensation=weights.facts["compensation"],
            warnings=(*_warnings(weights.facts, *parts.values()), *self._without_model(cell)),
            degenerate=parts[ACCURACY].get(DEGENERATE, 0.0),
            differences=weights.facts.get("differences", {}),
        )

    def _without_model(self, cell: Cell) -> tuple[str, ...]:
        """The warning that the cell's row has fewer tasks than the board, because models were not given."""
        absent = self.plan.without_model(cell.method)
        if not absent or self.plan.methods[cell.method].fidelity != "given":  # every board has oracles for some tasks
            return ()
        there = len(self.plan.tasks) - len(absent)
        return (f"there is no model for {', '.join(absent)}, so the row's means are over {there} tasks",)

    def _compared(self) -> str:
        """The network whose features FID and KID compare, and what they compare with if these are no real pictures."""
        world, concepts = self.plan.world, self.plan.concepts
        name = world.feature_extractor()
        without = [c for c in concepts if world.reference_key(c) is None] if world.reference_from_model else []
        if not without:
            return name
        of = f" of {len(without)} of {len(concepts)} concepts" if len(without) < len(concepts) else ""
        return f"{name}, against the untouched model's images{of}"

    def _stored_curve(self, cell: Cell, weights: Entry) -> tuple[CurvePoint, ...] | None:
        """The points of the cell's curve, in the order of training; None if they are not stored.

        The list is empty for a method that does not train.
        """
        parts = self.plan.curve
        keys = [self.artifacts.snapshot.key(cell, part, parts) for part in range(1, parts)]
        on_the_way = [self.store.get("snapshots", key, verify=False) for key in keys]
        known = [entry for entry in on_the_way if entry is not None]
        if not keys or len(known) < len(keys):
            return None
        curve = self.store.get("scores", self.curve_key(cell, weights, known))
        return None if curve is None else tuple(map(CurvePoint.from_json, curve.facts["points"]))

    def not_run(self, cell: Cell) -> CellResult:
        """The result of a cell before it runs: it identifies the cell and has no figures."""
        variant = self.plan.variants.get(cell.method)
        return CellResult(
            method=cell.method,
            task=cell.task.name,
            seed=cell.seed,
            fingerprint=self.fingerprint,
            fidelity=self.plan.methods[cell.method].fidelity,
            multi=self.plan.methods[cell.method].multi,
            base_method=self.plan.base_method(cell.method),
            variant=dict(variant.values) if variant else {},
            config=digest.plain(cell.config),
            band=cell.task.band,
            forget=cell.task.forget,
            step=step_of(cell.task, self.plan.tasks),
            probe=probe_of(cell.task, self.plan.protocol),
        )

    def score_key(self, cell: Cell, weights: Entry, name: str) -> dict[str, Any]:
        """The key of a cell's metric `name`, or for `ACCURACY` the key of the accuracies of its concepts."""
        if name == ACCURACY:
            return self.artifacts.accuracies.key(cell, weights)
        return self.artifacts.metric_score.key(METRICS.get(name), cell, weights)

    def result_key(self, cell: Cell, weights: Entry) -> dict[str, Any]:
        """The key of the entry with all figures of a cell. It contains the keys of the figures."""
        figures = {name: digest.of_json(self.score_key(cell, weights, name)) for name in self.names}
        return {"what": "result", "figures": figures}

    @cached_property
    def signature(self) -> str:
        """Digest of everything that the run's results depend on except the machine: plan, judges, prompts, versions."""
        artifacts = Artifacts(self.context.elsewhere({"versions": {}}))
        measured = artifacts.context.description
        return digest.of_json([measured, self._versions, [artifacts.weights.key(cell) for cell in self.plan.cells]])

    @cached_property
    def _versions(self) -> dict[str, Any]:
        metrics = {name: metric_stamp(self.context, METRICS.get(name)) for name in self.plan.metrics}
        return {ACCURACY: accuracy_stamp(self.context), **metrics}

    def curve_key(self, cell: Cell, weights: Entry, between: list[Entry]) -> dict[str, Any]:
        """The key of the points of a cell's curve; `between` are the snapshots of its training."""
        return self.artifacts.curve.key(cell, weights, between)

    def failure_key(self, cell: Cell) -> dict[str, Any]:
        """The key of a cell's failure."""
        return {
            "delta": digest.of_json(self.artifacts.weights.key(cell)),
            "fingerprint": self.context.measured,
            "metrics": self.plan.metrics,
            "curve": self.plan.curve,
        }


def _warnings(*facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings in the facts of a cell's weights and figures, each once. Facts without warnings do not name them."""
    return tuple(dict.fromkeys(text for one in facts for text in one.get("warnings", ())))


def step_of(task: Task, tasks: Sequence[Task]) -> SequenceStep | None:
    """The position of a task in its sequence of requests; None if the task is not part of a sequence."""
    whole = () if task.finetune else max((t.chain for t in tasks if task in t.chain), key=len)
    if len(whole) < 2:
        return None
    name = " > ".join(c for t in whole for c in t.request)
    return SequenceStep(name, len(task.chain), len(whole), task.request)


def probe_of(task: Task, protocol: Protocol) -> FinetuningProbe | None:
    """How the model of a task is trained further; None if it is not trained further."""
    if task.finetune is None or task.after is None:
        return None
    training = task.finetune
    return FinetuningProbe(task.after.name, training.data, training.how, training.pictures, protocol.finetune_steps)
