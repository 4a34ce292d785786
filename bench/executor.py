"""Runs cells: every cell ends in a result, a failed one too."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from bench import digest, evidence, fingerprint, panel, probe, sampler
from bench.plan import Cell, Plan
from bench.stages import Report, Stages
from bench.suites import Task
from metrics import METRICS
from metrics import base as metrics_base


class Executor:
    """Runs the cells of a plan, one after the other, in this process.

    Args:
        plan: what to run.
        report: told about progress within a cell.
    """

    def __init__(self, plan: Plan, report: Report = lambda what, done, total: None) -> None:
        self.plan, self.stages = plan, Stages(plan, report)
        self.description = fingerprint.describe(plan, self.stages.panel, self.stages.content, self.stages.device)
        self.fingerprint = fingerprint.short(self.description)
        self._forced: set[str] = set()  # entries already dropped by --force in this run

    def run(self, cell: Cell) -> dict[str, Any]:
        """The cell's result: from the store, or computed now. A failure becomes a result too, with its traceback."""
        key = self.result_key(cell)
        entry = self.stages.store.get("results", key)
        if entry is not None and entry.facts["status"] == "ok" and not self.plan.run.force:
            return entry.facts
        self.stages.store.drop("results", key)
        if self.plan.run.force:
            self._drop(cell)
        try:
            facts = self._evaluate(cell)
        except Exception as error:
            reason, text = f"{type(error).__name__}: {error}", traceback.format_exc()
        else:
            return self.stages.store.put("results", key, facts=facts).facts
        self.stages.release()  # not before the error is gone, whose frames hold what it computed with
        return self.failed(cell, reason, text)

    def failed(self, cell: Cell, reason: str, traceback_text: str = "") -> dict[str, Any]:
        """Store and return the result of a cell that came to nothing; without a traceback it names no file."""
        key = self.result_key(cell)
        self.stages.store.drop("results", key)
        file = str(self.stages.store.place("results", key) / "traceback.txt") if traceback_text else ""
        facts = {**self._about(cell), "status": "failed", "reason": reason, "traceback": file}
        texts = {"traceback.txt": traceback_text} if traceback_text else {}
        return self.stages.store.put("results", key, facts=facts, texts=texts).facts

    def run_all(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Run every cell here, in the plan's order; yield (index, result) as they finish."""
        for index, cell in enumerate(self.plan.cells):
            yield index, self.run(cell)

    def stored(self, cell: Cell) -> dict[str, Any]:
        """The cell's result as the store has it; status "not run" where it has none."""
        entry = self.stages.store.get("results", self.result_key(cell))
        return entry.facts if entry is not None else {**self._about(cell), "status": "not run"}

    def _evaluate(self, cell: Cell) -> dict[str, Any]:
        weights = self.stages.delta(cell)
        metrics = [METRICS.get(name) for name in self.plan.metrics]
        needs = {need for metric in metrics for need in metric.needs}
        seen = evidence.gather(self.stages, cell.task, weights, needs)
        scores: dict[str, dict[str, float | int] | None] = {}
        for metric in metrics:
            score = metric.compute(seen)
            if score and not math.isfinite(score.value):
                raise ArithmeticError(f"{metric.name} is {score.value}")
            scores[metric.name] = {"value": score.value, "n": score.n} if score else None
        each = {metric.name: metric.each(seen) for metric in metrics if metric.each}
        concepts = []
        for concept in cell.task.concepts:
            accuracy = seen.accuracy([concept])
            concepts.append(
                {
                    "concept": concept,
                    "role": role_of(concept, cell.task),
                    "closeness": max(self.plan.world.closeness(concept, target) for target in cell.task.forget),
                    "accuracy": accuracy.value,
                    "n": accuracy.n,
                    **{n: None if v is None else seen.mean(v, [concept]).value for n, v in each.items()},
                }
            )
        return {
            **self._about(cell),
            **weights.facts,
            "status": "ok",
            "scores": scores,
            "concepts": concepts,
            "extractor": self.stages.panel.extractor_name,
        }

    def _about(self, cell: Cell) -> dict[str, Any]:
        return {
            "method": cell.method,
            "fidelity": self.plan.methods[cell.method].fidelity,
            "task": cell.task.name,
            "band": cell.task.band,
            "seed": cell.seed,
            "config": digest.plain(cell.config),
            "fingerprint": self.fingerprint,
        }

    def result_key(self, cell: Cell) -> dict[str, Any]:
        """What determines a result."""
        metrics = [sys.modules[METRICS.get(name).compute.__module__] for name in self.plan.metrics]
        return {
            "fingerprint": self.description,
            "delta": self.stages.delta_key(cell),
            "metrics": self.plan.metrics,
            "code": digest.of_source(sampler, panel, probe, evidence, metrics_base, *metrics),
        }

    def _drop(self, cell: Cell) -> None:
        if cell.method not in self.plan.run.methods:
            return  # controls are computed again only when asked for by name
        weights = self.stages.store.get("deltas", self.stages.delta_key(cell))
        for wanted in (None, self.stages.headnoun_shots(cell.task)) if weights else ():
            key = self.stages.images_key(weights, wanted)
            place = str(self.stages.store.place("images", key))
            if place not in self._forced:
                self._forced.add(place)
                self.stages.store.drop("images", key)
        self.stages.drop_delta(cell)


def role_of(concept: str, task: Task) -> str:
    """ "forget", "in_domain" or "out_of_domain"."""
    for role in ("forget", "in_domain", "out_of_domain"):
        if concept in getattr(task, role):
            return role
    raise ValueError(f"{concept!r} plays no part in task {task.name!r}")
