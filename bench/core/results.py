"""The result of one cell: one method on one task with one training seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.core.score import Score

Status = Literal["ok", "failed", "not run"]
Scores = Mapping[str, Score | None]  # by metric; None where the task asks for nothing that the metric could measure


@dataclass(frozen=True)
class SequenceStep:
    """Where a request stands in a sequence of requests.

    Args:
        sequence: name of the sequence, the same for all of its requests.
        number: of the request, from 1.
        length: how many requests the sequence has.
        request: concepts that this request asks to forget, besides those before it.
    """

    sequence: str
    number: int
    length: int
    request: tuple[str, ...]


@dataclass(frozen=True)
class FinetuningProbe:
    """How an unlearned model was trained further; `data`, `how` and `pictures` are those of `bench.core.task.Finetune`.

    Args:
        unlearned_task: name of the task whose weights the training started from.
        steps: how many optimiser steps it took.
    """

    unlearned_task: str
    data: str
    how: str
    pictures: int
    steps: int


@dataclass(frozen=True)
class ConceptResult:
    """What the images of one concept show.

    Args:
        concept: its name.
        role: "forget", "in_domain" or "out_of_domain".
        distances: by each measure of the world, the distance to the nearest concept that the task forgets.
        judge: accuracy of the classifier on `judge_n` real pictures of the concept, 0 to 1; None without such pictures.
        judge_n: how many real pictures that are.
        judged_by: name of the classifier.
        accuracy: share of the `n` generated images that are classified as the concept, 0 to 1.
        n: how many images that are.
        figures: metric -> its mean over the concept's images, for metrics that are such means; None without a value.
        untouched: accuracy of the classifier on `untouched_n` images of the concept by the untouched model, 0 to 1;
            None in worlds that draw no line there (`World.drawn_from`).
        untouched_n: how many images that are.
        undrawn: why no figure of the board counts the concept: a sentence without its end; "" if figures count it.
    """

    concept: str
    role: str
    distances: Mapping[str, float]
    judge: float | None
    judge_n: int
    judged_by: str
    accuracy: float
    n: int
    figures: Mapping[str, float | None] = field(default_factory=dict)
    untouched: float | None = None
    untouched_n: int = 0
    undrawn: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """Figures at one checkpoint of a training; `part` is how far the training was, 0 to 1."""

    part: float
    scores: Scores

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> CurvePoint:
        """The point that `facts` describe, which the store keeps in this form too."""
        return CurvePoint(facts["part"], scores_from_json(facts["scores"]))


@dataclass(frozen=True)
class CellResult:
    """What came of one cell: its identity, then its status, then its figures, which only a finished cell has.

    Args:
        method: name of the row of the board: of a method, or of a variant of one in a sweep.
        task: name of the task.
        seed: training seed.
        fingerprint: stands for everything but the method that figures depend on; only figures with the same one
            compare.
        fidelity: of the method: "published", "reconstruction", "control" or "given".
        multi: how the method takes several concepts, as `bench.training.method.Method.multi` says.
        base_method: the method's own name, without what a sweep set.
        variant: settings that a sweep set -> their values, as the command line has them.
        config: all settings of the method.
        band: band of the task; "" without one.
        forget: concepts that the task forgets, those of earlier requests of its sequence among them.
        step: where the task stands in a sequence of requests; None for a task on its own.
        probe: how the task's model was trained further; None where it was not.
        status: "ok", "failed" or "not run".
        reason: why it failed; "" elsewhere.
        traceback: path of the file with the traceback, or of a worker's log; "" without one.
        retry: whether the cell failed for what its machine did, so that another attempt may fare better.
        scores: metric -> figure.
        concepts: what each concept's images show.
        curve: points along the training, first to last; empty where the method does not train, None where they were
            not measured.
        cost: what the method took, by the names of `metrics.COSTS`.
        data: what it looked at, by the same; empty where its weights were given.
        compensation: what the method was given in words.
        extractor: name of the network whose features FID and KID compare.
        warnings: what a reader of the figures must know about the cell, a sentence each without a full stop.
        degenerate: share of the cell's images that show nothing, being black or of one colour, 0 to 1.
        differences: network -> how a given model differs from the backbone: "given", "changed" and "total", numbers of
            tensors, and "norm", the norm of the change relative to that of the weights. {} for methods.
    """

    method: str
    task: str
    seed: int
    fingerprint: str
    fidelity: str
    multi: str
    base_method: str
    variant: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    band: str = ""
    forget: tuple[str, ...] = ()
    step: SequenceStep | None = None
    probe: FinetuningProbe | None = None
    status: Status = "not run"
    reason: str = ""
    traceback: str = ""
    retry: bool = False
    scores: Scores = field(default_factory=dict)
    concepts: tuple[ConceptResult, ...] = ()
    curve: tuple[CurvePoint, ...] | None = None
    cost: Mapping[str, float | int] = field(default_factory=dict)
    data: Mapping[str, int] = field(default_factory=dict)
    compensation: str = ""
    extractor: str = ""
    warnings: tuple[str, ...] = ()
    degenerate: float = 0.0
    differences: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the cell finished and has figures."""
        return self.status == "ok"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON has it, to hand from process to process."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> CellResult:
        """The result that `to_json` described. Raises TypeError or KeyError for anything else."""
        step, probe, curve = facts["step"], facts["probe"], facts["curve"]
        parts: dict[str, Any] = {
            "forget": tuple(facts["forget"]),
            "step": step and SequenceStep(**{**step, "request": tuple(step["request"])}),
            "probe": probe and FinetuningProbe(**probe),
            "scores": scores_from_json(facts["scores"]),
            "concepts": tuple(ConceptResult(**concept) for concept in facts["concepts"]),
            "curve": None if curve is None else tuple(map(CurvePoint.from_json, curve)),
            "warnings": tuple(facts.get("warnings", ())),
        }
        return CellResult(**{**facts, **parts})


def scores_from_json(facts: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Score | None]:
    """Figures by metric, from {"value": ..., "n": ...} each, the form that the store keeps them in."""
    return {name: Score(**score) if score else None for name, score in facts.items()}
