"""The artifacts of a cell's figures: the accuracies of its concepts, its metrics, and its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from bench.cells import evidence
from bench.cells.artifact import FIRST, Artifact, Key, StageOutput, modules_of, of_metric, plugin_modules
from bench.cells.checks import drawn
from bench.cells.evidence import EvidenceParts
from bench.cells.images import Images
from bench.cells.judges import DEGENERATE, Judgements, Reference, identity_of_reference
from bench.cells.probe import Probes, PromptProbes
from bench.cells.weights import Weights
from bench.core import digest
from bench.core.contents import declared_files, source_files
from bench.core.score import Score
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan import plugin_import
from bench.plan.plan import Cell
from bench.training import attachment, file_watch
from metrics import METRICS, Evidence, Metric

if TYPE_CHECKING:
    from bench.cells.artifacts import Context
    from bench.worlds import World

INPUTS: tuple[type[Artifact[...]], ...] = (Images, Judgements, Reference, EvidenceParts)  # inputs of every figure
NEEDED: dict[str, tuple[type[Artifact[...]], ...]] = {  # optional field of Evidence -> further artifacts that it needs
    "probe": (Probes,),
    "prompt_probes": (PromptProbes,),
}


MANY = 0.1  # share of images that show nothing from which on a cell has a warning
MANY_DEGENERATE = (
    f"at least {MANY:.0%} of the pictures show nothing, being black or of one colour, so a broken picture may count as "
    "forgotten: see degenerate"
)

RIGHT = "it must return a Score of a number and of how many images it is from, or None where it is not defined"


class _Figure(Artifact[...]):
    """The base class of figures: the part of the key that all figures of a task and some weights share."""

    kind = "scores"

    def _key(self, what: str, task: Task, weights: Entry, stamp: Key) -> Key:
        about = self.context.once("about", task, lambda: digest.of_json(_about(self.context, task)))
        measured = {"fingerprint": self.context.measured, "about": about}
        model = [self.context.content, attachment.identity(weights)]
        return {"what": what, "weights": model, **measured, **stamp}


class Accuracies(_Figure):
    """The accuracy of every concept that a cell's task evaluates: the fact "concepts" has one row for each concept.

    `seen` is the cell's evidence. The other inputs determine it, so it is not part of the key.
    """

    name = "accuracy"

    def key(self, cell: Cell, weights: Entry, seen: Evidence | None = None) -> Key:
        return self._key(self.name, cell.task, weights, accuracy_stamp(self.context))

    def compute(self, cell: Cell, weights: Entry, seen: Evidence) -> StageOutput:
        world, reference, rows = self.plan.world, Reference(self.context), []
        for concept in cell.task.concepts:
            accuracy, real = seen.accuracy([concept]), reference(concept)
            row = {
                "concept": concept,
                "role": role_of(concept, cell.task),
                "distances": nearest_distances(world, concept, cell.task),
                "judge": real.facts["right"] / real.facts["count"] if real.facts["count"] else None,
                "judge_n": real.facts["count"],
                "judged_by": world.judge_of(concept),
                "accuracy": accuracy.value,
                "n": accuracy.n,
                **_untouched(self.context, concept),
            }
            rows.append(row)
        return {}, {"concepts": rows, **self._degenerate(weights, seen)}

    def _degenerate(self, weights: Entry, seen: Evidence) -> dict[str, Any]:
        """The share of the cell's images that show nothing, with a warning if it is high; empty for a share of 0."""
        judgements = Judgements(self.context)(Images(self.context)(weights))
        nothing = {*seen.images}.intersection(judgements.facts.get(DEGENERATE, ()))
        if not nothing:
            return {}
        share = len(nothing) / len({*seen.images})
        return {DEGENERATE: share, **({"warnings": [MANY_DEGENERATE]} if share >= MANY else {})}


class MetricScore(_Figure):
    """A metric of a cell: the fact "score", and for metrics that are means over images the fact "each" by concept.

    `seen` is the cell's evidence with the fields that the metric needs. The other inputs determine it, so it is not
    part of the key.
    """

    name = "metric"

    def key(self, metric: Metric, cell: Cell, weights: Entry, seen: Evidence | None = None) -> Key:
        return self._key(metric.name, cell.task, weights, metric_stamp(self.context, metric))

    def compute(self, metric: Metric, cell: Cell, weights: Entry, seen: Evidence) -> StageOutput:
        """Raises ArithmeticError if the score is infinite or NaN, and every exception that the metric raises."""
        sources = source_files.closure(modules_of(metric)) if plugin_modules(metric) else {}
        noting = file_watch.watching(sources) if sources else nullcontext(file_watch.Reads())  # Lethe's read no file
        before = of_metric(metric)
        with _watched(self.context, metric, seen), noting as reads:
            score = _score(metric, seen) if drawn.is_measured(self.context, cell.task) else None
            values = metric.each(seen) if metric.each else None
        if of_metric(metric) != before:
            raise RuntimeError(f"a file that the metric {metric.name!r} declares changed while it ran; run it again")
        facts: dict[str, Any] = {"score": {"value": score.value, "n": score.n} if score else None}
        reads.add(*plugin_import.reads_of(sources))
        own = declared_files.listed_of(f"metric {metric.name!r}", metric)
        known = (*own, *declared_files.listed_of("the world", self.plan.world), *sources.values())
        if undeclared := reads.undeclared(known, (self.plan.folder, self.store.root)):
            facts["warnings"] = [f"{metric.name}: {file_watch.warning(undeclared)}"]
        if metric.each:
            concepts = cell.task.concepts
            each = None if values is None else {c: seen.mean(values, [c]).value for c in concepts}
            facts["each"] = each and {c: _finite(value, f"{metric.name} of {c!r}") for c, value in each.items()}
        return {}, facts


class Curve(_Figure):
    """The points of a cell's curve: the fact "points" has one point before the training and one after each part of it.

    The inputs are the cell, its weights, and the snapshots after each part of the training except the last.
    """

    name = "curve"

    def key(self, cell: Cell, weights: Entry, between: Sequence[Entry]) -> Key:
        metrics = _along(self.plan.metrics)
        what = f"{self.name} of {len(between) + 1}: {', '.join(metric.name for metric in metrics)}"
        versions = {"metrics": {metric.name: of_metric(metric) for metric in metrics}}
        stamp = self.context.stamps.of_figure(self.name, INPUTS, self.version, versions)
        return {
            **self._key(what, cell.task, weights, stamp),
            "between": [attachment.identity(entry) for entry in between],
        }

    def compute(self, cell: Cell, weights: Entry, between: Sequence[Entry]) -> StageOutput:
        if not all(entry.facts["taken"] for entry in between):
            return {}, {"points": []}
        metrics = _along(self.plan.metrics)
        before, points = Weights(self.context).before(cell), []
        for part, passing in enumerate((before, *between, weights)):
            measured = part == 0 and (before is None or cell.task.after in self.plan.tasks)
            seen = evidence.along(self.context, cell.task, passing, measured or passing is weights)
            scores = {}
            for metric in metrics:
                with _watched(self.context, metric, seen):
                    scores[metric.name] = _score(metric, seen) if drawn.is_measured(self.context, cell.task) else None
            values = {name: {"value": score.value, "n": score.n} if score else None for name, score in scores.items()}
            points.append({"part": part / (len(between) + 1), "scores": values})
        return {}, {"points": points}


def _of_captions(context: Context) -> Key:
    """The part of a key for the world's captions and their reference images; {} for a world without captions."""
    world = context.plan.world
    if not world.captions:
        return {}
    return {"captions": [digest.of_json(world.captions), world.caption_reference_key()]}


def _untouched(context: Context, concept: str) -> Key:
    """What the judge says about the untouched model's images of a concept, for a table row; {} for most worlds."""
    if (found := drawn.recognised(context).get(concept)) is None:
        return {}
    row: Key = {"untouched": found.right / found.total, "untouched_n": found.total}
    return row if found.drawn else {**row, "undrawn": found.reason}


def accuracy_stamp(context: Context) -> Key:
    """The versions that affect the accuracies of concepts."""
    return context.stamps.of_figure(Accuracies.name, INPUTS, Accuracies.version)


def metric_stamp(context: Context, metric: Metric) -> Key:
    """The versions that affect a metric."""
    needed = tuple(artifact for need in metric.needs for artifact in NEEDED.get(need, ()))
    later = {"score": MetricScore.version} if MetricScore.version != FIRST else {}
    return context.stamps.of_metric(metric, (*INPUTS, *needed), later)


def _watched(context: Context, metric: Metric, seen: Evidence) -> AbstractContextManager[object]:
    """A block in which the metric of a plug-in computes; the next metric gets the same evidence and process."""
    own = plugin_modules(metric)
    return context.watched(f"metric {metric.name!r}", own, {"evidence": seen}) if own else nullcontext()


def _score(metric: Metric, seen: Evidence) -> Score | None:
    """The metric's score, or None where it is not defined.

    Raises TypeError for anything else, ArithmeticError if the score is infinite or NaN, and every exception of the
    metric.
    """
    score = metric.compute(seen)
    if score is None:
        return None
    if not isinstance(score, Score) or not isinstance(score.value, Real) or not isinstance(score.n, Integral):
        raise TypeError(f"metric {metric.name!r} returned {score!r}; {RIGHT}")
    if score.n < 1:
        raise ValueError(f"metric {metric.name!r} returned {score!r}, of {score.n} images; {RIGHT}")
    _finite(score.value, metric.name)
    return score


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ArithmeticError(f"{what} is {value}, which is not a finite number")
    return value


def _along(names: Sequence[str]) -> list[Metric]:
    return [metric for metric in map(METRICS.get, names) if metric.along]


def _about(context: Context, task: Task) -> Key:
    """Everything that the figures of a task depend on besides images and versions."""
    world = context.plan.world
    members = {target: world.domain_members(target) for target in task.forget}
    known = dict.fromkeys(
        [*task.concepts, *(member for of in members.values() for member in of), *world.extra_concepts]
    )
    return {
        "task": task,
        "real": [identity_of_reference(context, concept) for concept in known],
        "members": members,
        "aside": world.extra_concepts,
        "words": {
            target: [world.bare_name(target), world.superclass_prompts(target, "evaluate")] for target in task.forget
        },
        "distances": {c: {target: world.distances(c, target) for target in task.forget} for c in task.concepts},
        **_of_captions(context),
        **({"drawn_from": world.drawn_from} if world.drawn_from is not None else {}),
    }


def nearest_distances(world: World, concept: str, task: Task) -> dict[str, float]:
    """Name of each distance of the world -> distance from `concept` to the nearest concept that the task forgets."""
    each = [world.distances(concept, target) for target in task.forget]
    return {name: min(d[name] for d in each if name in d) for name in dict.fromkeys(n for d in each for n in d)}


def role_of(concept: str, task: Task) -> str:
    """The role of a concept in a task: "forget", "in_domain" or "out_of_domain".

    Raises ValueError for a concept that the task does not evaluate.
    """
    for role in ("forget", "in_domain", "out_of_domain"):
        if concept in getattr(task, role):
            return role
    raise ValueError(f"task {task.name!r} does not evaluate {concept!r}; known: {', '.join(task.concepts)}")
