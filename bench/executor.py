"""Runs cells: every cell ends in a result, a failed one too."""

from __future__ import annotations

import functools
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from safetensors import SafetensorError

from bench import digest, evidence, fingerprint, panel, probe, sampler
from bench.config import Protocol
from bench.plan import Cell, Plan
from bench.stages import Report, Stages
from bench.store import Entry, Thinned
from bench.task import Task
from bench.worlds import World
from metrics import METRICS, Evidence, Metric
from metrics import base as metrics_base

CURVE = "curve"  # what is stored of a cell for --curve
FILES = (OSError, SafetensorError)  # what writing and reading fails with
ACCURACY = "accuracy"  # what is stored of a cell besides its metrics: the accuracy of every concept


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
        """See the store as `machine`, as `bench.machine.describe` has it, does: results that it made. None: this one.

        Then nothing is to be computed here.
        """
        stages = self.stages = Stages(self.plan, self._report, machine)
        self.description = fingerprint.describe(self.plan, stages.panel.digest, stages.content, stages.machine)
        self.fingerprint = fingerprint.short(self.description)
        self._measured = digest.of_json(self.description)

    def run(self, cell: Cell) -> dict[str, Any]:
        """The cell's result: from the store, or computed now. A failure becomes a result too, with its traceback."""
        if self.finished(found := self.stored(cell)):
            return found
        self.stages.store.drop("failures", self.failure_key(cell))
        try:
            self._evaluate_whole(cell)
        except Exception as error:
            reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
            again = isinstance(error, FILES)  # a full disk, a file system that is away: no fault of the method
        else:
            return self.stored(cell)
        self.stages.release()  # not before the error is gone, whose frames hold what it computed with
        return self.failed(cell, reason, text, again=again)

    def failed(
        self, cell: Cell, reason: str, traceback_text: str = "", log: str = "", again: bool = False
    ) -> dict[str, Any]:
        """Store and return the result of a cell that came to nothing.

        It names the file of its traceback, or the `log` of whatever ended, if there is one. `again`: another attempt
        may fare better. Where nothing can be stored any more, the result is returned all the same.
        """
        key, store = self.failure_key(cell), self.stages.store
        file = str(store.place("failures", key) / "traceback.txt") if traceback_text else log
        facts = {**self._about(cell), "status": "failed", "reason": reason, "traceback": file, "again": again}
        texts = {"traceback.txt": traceback_text} if traceback_text else {}
        try:
            store.drop("failures", key)
            return store.put("failures", key, facts=facts, texts=texts).facts
        except OSError as error:
            return {**facts, "reason": f"{reason} (and it could not be noted: {error})", "traceback": log}

    def restated(self, cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
        """A result as this executor says it: a failed one may have been noted before it knew the workers' machine."""
        return result if result["status"] == "ok" else {**result, **self._about(cell)}

    def stored(self, cell: Cell) -> dict[str, Any]:
        """The cell's result as the store has it; status "not run" where it has none."""
        store, names = self.stages.store, (ACCURACY, *self.plan.metrics)
        weights, whole = store.get("deltas", self.stages.keys.delta(cell), look=False), None
        if weights is not None:
            parts = {name: store.get("scores", self.score_key(cell, weights, name)) for name in names}
            if all(parts.values()):
                whole = self._whole(cell, weights, {name: entry.facts for name, entry in parts.items() if entry})
                if not self.wants_curve(whole):
                    return whole
        failure = store.get("failures", self.failure_key(cell))
        if failure is not None:
            return {**failure.facts, **self._about(cell)}  # settings may be those of another row of a sweep
        return {**self._about(cell), "status": "not run"} if whole is None else whole

    def finished(self, result: Mapping[str, Any]) -> bool:
        """Whether a cell needs nothing more."""
        return result["status"] == "ok" and not self.wants_curve(result)

    def wants_curve(self, result: Mapping[str, Any]) -> bool:
        """Whether a finished result lacks the curve that the run asks for."""
        return self.plan.curve > 1 and result["curve"] is None

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
            "extractor": self.stages.panel.extractor_name,
        }

    def _stored_curve(self, cell: Cell, weights: Entry) -> list[dict[str, Any]] | None:
        """Points along the cell's training, first to last; empty for a method that does not train, None for unknown."""
        parts = self.plan.curve
        keys = [self.stages.keys.snapshot(cell, part, parts) for part in range(1, parts)]
        on_the_way = [self.stages.store.get("snapshots", key, look=False) for key in keys]
        known = [entry for entry in on_the_way if entry is not None]
        if not keys or len(known) < len(keys):
            return None
        found = self.stages.store.get("scores", self.curve_key(cell, weights, known))
        return None if found is None else found.facts["points"]

    def _evaluate_whole(self, cell: Cell) -> None:
        """Evaluate, and give up weights that are no longer of use; those given up too early are made once more."""
        try:
            self._evaluate(cell)
        except Thinned:
            self.stages.weights.remake(cell)
            self._evaluate(cell)
        with suppress(OSError):  # space alone is lost
            self.stages.weights.thin(cell)

    def _evaluate(self, cell: Cell) -> None:
        """Bring everything that the cell's result consists of into the store."""
        weights = self.stages.weights.of(cell)
        metrics = [METRICS.get(name) for name in self.plan.metrics]
        keys = {name: self.score_key(cell, weights, name) for name in (ACCURACY, *self.plan.metrics)}
        store, new = self.stages.store, [m for m in metrics if not self.stages.store.get("scores", keys[m.name])]
        seen = evidence.gather(self.stages, cell.task, weights, {need for metric in new for need in metric.needs})
        store.stage("scores", keys[ACCURACY], lambda: ({}, {"concepts": self._accuracies(cell, seen)}))
        for metric in new:
            store.stage("scores", keys[metric.name], functools.partial(scored, metric, cell.task, seen))
        if self.plan.curve > 1:
            on_the_way = self.stages.weights.snapshots(cell)
            points = functools.partial(self._points, cell, weights, on_the_way)
            store.stage("scores", self.curve_key(cell, weights, on_the_way), points)

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

    def _about(self, cell: Cell) -> dict[str, Any]:
        variant = self.plan.variants.get(cell.method)
        return {
            "method": cell.method,
            "fidelity": self.plan.methods[cell.method].fidelity,
            "variant": dict(variant.values) if variant else {},
            "variant_of": self.plan.plain(cell.method),
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
        own = [] if name == ACCURACY else [sys.modules[METRICS.get(name).compute.__module__]]
        code = (sampler, panel, probe, evidence, metrics_base, *own)
        return self.stages.keys.score(cell.task, weights, self._measured, name, code)

    def curve_key(self, cell: Cell, weights: Entry, between: list[Entry]) -> dict[str, Any]:
        """What determines the points of a cell's curve."""
        metrics = [metric for metric in map(METRICS.get, self.plan.metrics) if metric.along]
        own = [sys.modules[metric.compute.__module__] for metric in metrics]
        what = f"{CURVE} of {len(between) + 1}: {', '.join(metric.name for metric in metrics)}"
        code = (sampler, panel, evidence, metrics_base, *own)
        key = self.stages.keys.score(cell.task, weights, self._measured, what, code)
        return {**key, "between": [entry.content for entry in between]}

    def failure_key(self, cell: Cell) -> dict[str, Any]:
        """What a failure is remembered by."""
        return {
            "delta": digest.of_json(self.stages.keys.delta(cell)),
            "fingerprint": self._measured,
            "metrics": self.plan.metrics,
            "curve": self.plan.curve,
        }

    def drop_forced(self) -> None:
        """Forget what --force computes again. Once, before cells run: they share images."""
        store, keys = self.stages.store, self.stages.keys
        for cell in self.plan.cells:
            weights = store.get("deltas", keys.delta(cell))
            if cell.method not in self.plan.forced or weights is None:
                continue
            for wanted in (None, self.stages.headnoun_shots(cell.task)[1]):
                store.drop("images", keys.images(weights, wanted))
            for name in (ACCURACY, *self.plan.metrics):
                store.drop("scores", self.score_key(cell, weights, name))
            parts = range(1, self.plan.curve)
            points = [store.get("snapshots", keys.snapshot(cell, part, self.plan.curve)) for part in parts]
            if points and all(points):
                store.drop("scores", self.curve_key(cell, weights, [entry for entry in points if entry]))
        for cell in self.plan.cells:
            if cell.method in self.plan.forced:
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


def role_of(concept: str, task: Task) -> str:
    """ "forget", "in_domain" or "out_of_domain"."""
    for role in ("forget", "in_domain", "out_of_domain"):
        if concept in getattr(task, role):
            return role
    raise ValueError(f"{concept!r} plays no part in task {task.name!r}")
