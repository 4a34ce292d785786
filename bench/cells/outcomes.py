"""What the store has of a run's cells: whole results, failures, and what each of their figures is found under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from bench.cells import fingerprint
from bench.cells.artifacts import Artifacts
from bench.cells.scores import accuracy_stamp, metric_stamp
from bench.core import digest
from bench.core.config import Protocol
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan.plan import Cell
from metrics import METRICS

ACCURACY = "accuracy"  # what is stored of a cell besides its metrics: the accuracy of every concept


class Outcomes:
    """What came of a plan's cells, as far as the store knows: under keys that name the judges, if it has any."""

    def __init__(self, artifacts: Artifacts) -> None:
        self.artifacts, self.context = artifacts, artifacts.context
        self.plan, self.store = artifacts.plan, artifacts.store
        self.names = (ACCURACY, *self.plan.metrics)  # of figures that a cell has

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the figures depend on besides the method, in full."""
        return self.context.description

    @cached_property
    def fingerprint(self) -> str:
        """What stands for it on a board."""
        return fingerprint.short(self.description)

    def failed(
        self, cell: Cell, reason: str, traceback_text: str = "", log: str = "", again: bool = False
    ) -> dict[str, Any]:
        """Store and return the result of a cell that came to nothing.

        It names the file of its traceback, or the `log` of whatever ended, if there is one. `again`: another attempt
        may fare better. Where nothing can be stored any more, the result is returned all the same.
        """
        key, store = self.failure_key(cell), self.store
        file = str(store.path("failures", key) / "traceback.txt") if traceback_text else log
        facts = {**self._about(cell), "status": "failed", "reason": reason, "traceback": file, "again": again}
        texts = {"traceback.txt": traceback_text} if traceback_text else {}
        try:
            store.drop("failures", key)
            return store.put("failures", key, facts=facts, texts=texts).facts
        except OSError as error:
            return {**facts, "reason": f"{reason} (and it could not be noted: {error})", "traceback": log}

    def relabel(self, cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
        """A result as is said here: a failed one may have been noted before it knew the workers' machine."""
        return result if result["status"] == "ok" else {**result, **self._about(cell)}

    def stored(self, cell: Cell) -> dict[str, Any]:
        """The cell's result as the store has it; status "not run" where it has none."""
        weights, whole = self.artifacts.weights.stored(cell), None
        if weights is not None and (parts := self._parts(cell, weights)):
            whole = self._whole(cell, weights, parts)
            if not self.wants_curve(whole):
                return whole
        failure = self.store.get("failures", self.failure_key(cell))
        if failure is not None:
            return {**failure.facts, **self._about(cell)}  # settings may be those of another row of a sweep
        return {**self._about(cell), "status": "not run"} if whole is None else whole

    def is_complete(self, cell: Cell, weights: Entry) -> bool:
        """Whether the store has all that a run wants of the cell under its `weights`: no figure is read for it."""
        if not self.store.has("results", self.result_key(cell, weights)):
            return self.finished(self.stored(cell))  # figures may be there that nobody put together yet
        return self.plan.curve < 2 or self._stored_curve(cell, weights) is not None

    def finished(self, result: Mapping[str, Any]) -> bool:
        """Whether a cell needs nothing more."""
        return result["status"] == "ok" and not self.wants_curve(result)

    def wants_curve(self, result: Mapping[str, Any]) -> bool:
        """Whether a finished result lacks the curve that the run asks for."""
        return self.plan.curve > 1 and result["curve"] is None

    def entries(self, cell: Cell) -> list[tuple[str, dict[str, Any]]]:
        """Kind and key of each entry that a finished cell's result is read from; none where it is not finished."""
        weights = self.artifacts.weights.stored(cell)
        if weights is None or not self.finished(self.stored(cell)):
            return []
        found = [("deltas", self.artifacts.weights.key(cell))]
        found += [("scores", self.score_key(cell, weights, name)) for name in self.names]
        if self.plan.curve > 1:
            between = [
                ("snapshots", self.artifacts.snapshot.key(cell, i, self.plan.curve)) for i in range(1, self.plan.curve)
            ]
            known = [entry for kind, key in between if (entry := self.store.get(kind, key, verify=False))]
            found += [*between, ("scores", self.curve_key(cell, weights, known))]
        return found

    def _parts(self, cell: Cell, weights: Entry) -> dict[str, dict[str, Any]] | None:
        """What is stored of each figure, by name; None where one is missing.

        They are put together as one entry besides: who reads thousands of cells opens one file for each, not twenty.
        """
        key = self.result_key(cell, weights)
        if whole := self.store.get("results", key):
            return whole.facts
        found = {name: self.store.get("scores", self.score_key(cell, weights, name)) for name in self.names}
        parts = {name: entry.facts for name, entry in found.items() if entry}
        if len(parts) < len(found):
            return None
        with suppress(OSError):  # a full disk, or a store that may only be read
            self.store.put("results", key, facts=parts)
        return parts

    def _whole(self, cell: Cell, weights: Entry, parts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        each = {name: parts[name]["each"] for name in self.plan.metrics if "each" in parts[name]}
        return {
            **self._about(cell),
            **weights.facts,
            "status": "ok",
            "scores": {name: parts[name]["score"] for name in self.plan.metrics},
            "concepts": [
                {**row, **{name: values and values[row["concept"]] for name, values in each.items()}}
                for row in parts[ACCURACY]["concepts"]
            ],
            "curve": self._stored_curve(cell, weights),
            "extractor": self.plan.world.feature_extractor(),
        }

    def _stored_curve(self, cell: Cell, weights: Entry) -> list[dict[str, Any]] | None:
        """Points along the cell's training, first to last; empty for a method that does not train, None for unknown."""
        parts = self.plan.curve
        keys = [self.artifacts.snapshot.key(cell, part, parts) for part in range(1, parts)]
        on_the_way = [self.store.get("snapshots", key, verify=False) for key in keys]
        known = [entry for entry in on_the_way if entry is not None]
        if not keys or len(known) < len(keys):
            return None
        found = self.store.get("scores", self.curve_key(cell, weights, known))
        return None if found is None else found.facts["points"]

    def _about(self, cell: Cell) -> dict[str, Any]:
        variant = self.plan.variants.get(cell.method)
        return {
            "method": cell.method,
            "fidelity": self.plan.methods[cell.method].fidelity,
            "variant": dict(variant.values) if variant else {},
            "variant_of": self.plan.base_method(cell.method),
            "way": self.plan.methods[cell.method].multi,
            "task": cell.task.name,
            "band": cell.task.band,
            "forget": list(cell.task.forget),
            "step": step_of(cell.task, self.plan.tasks),
            "probe": probe_of(cell.task, self.plan.protocol),
            "seed": cell.seed,
            "config": digest.plain(cell.config),
            "fingerprint": self.fingerprint,
        }

    def score_key(self, cell: Cell, weights: Entry, name: str) -> dict[str, Any]:
        """What determines a cell's figure of a metric, or for `ACCURACY` the accuracies of its concepts."""
        if name == ACCURACY:
            return self.artifacts.accuracies.key(cell, weights)
        return self.artifacts.metric_score.key(METRICS.get(name), cell, weights)

    def result_key(self, cell: Cell, weights: Entry) -> dict[str, Any]:
        """What determines all figures of a cell: what determines each of them."""
        figures = {name: digest.of_json(self.score_key(cell, weights, name)) for name in self.names}
        return {"what": "result", "figures": figures}

    @cached_property
    def signature(self) -> str:
        """Digest of all that the run's results depend on besides machines: what is asked, judges, prompts, code."""
        artifacts = Artifacts(self.context.elsewhere({"versions": {}}))
        measured = artifacts.context.description
        return digest.of_json([measured, self._versions, [artifacts.weights.key(cell) for cell in self.plan.cells]])

    @cached_property
    def _versions(self) -> dict[str, Any]:
        own = {name: metric_stamp(self.context, METRICS.get(name)) for name in self.plan.metrics}
        return {ACCURACY: accuracy_stamp(self.context), **own}

    def curve_key(self, cell: Cell, weights: Entry, between: list[Entry]) -> dict[str, Any]:
        """What determines the points of a cell's curve."""
        return self.artifacts.curve.key(cell, weights, between)

    def failure_key(self, cell: Cell) -> dict[str, Any]:
        """What a failure is remembered by."""
        return {
            "delta": digest.of_json(self.artifacts.weights.key(cell)),
            "fingerprint": self.context.measured,
            "metrics": self.plan.metrics,
            "curve": self.plan.curve,
        }


def step_of(task: Task, tasks: Sequence[Task]) -> dict[str, Any] | None:
    """Where in a sequence of requests a task stands; None for one that is alone."""
    whole = () if task.finetune else max((t.chain for t in tasks if task in t.chain), key=len)
    if len(whole) < 2:
        return None
    name = " > ".join(c for t in whole for c in t.request)
    return {"chain": name, "number": len(task.chain), "of": len(whole), "request": list(task.request)}


def probe_of(task: Task, protocol: Protocol) -> dict[str, Any] | None:
    """How a task's model is trained further; None where it is not."""
    if task.finetune is None or task.after is None:
        return None
    return {"of": task.after.name, **digest.plain(task.finetune), "steps": protocol.finetune_steps}
