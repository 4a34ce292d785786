"""Whether the judges know what they are to judge: on real pictures, and on images of the untouched model.

The tests say nothing about few images. A judge of a trial run, or one that is not trained, passes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.cells.checks import drawn
from bench.cells.images import Images
from bench.cells.judges import Judgements, Reference
from bench.plan.plugin_checks import InvalidEntry

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

ENOUGH = 100  # images of a judge, below which a judge that is right by chance is not refused
CHANCE = 0.05  # a judge is better than chance if chance alone would be as good with at most this probability
CERTAIN = 1e-3  # labels count as exchanged if chance alone would look so with at most this probability
MOST = 0.8  # share of a concept's images that have the label of another concept, if the two are exchanged
SHUFFLES = 999


@dataclass(frozen=True)
class Predictions:
    """What a judge says about images of known concepts.

    Args:
        labels: the K labels of the judge.
        concepts: the C concepts, each one of the labels.
        counts: how often the images of a concept have a label, whole numbers (C, K).
    """

    labels: tuple[str, ...]
    concepts: tuple[str, ...]
    counts: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """The index of the label of each concept, (C,)."""
        return np.array([self.labels.index(concept) for concept in self.concepts])

    @property
    def right(self) -> int:
        """Number of images with the label of their concept."""
        return int(self.counts[np.arange(len(self.concepts)), self.own].sum())

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    def chance(self) -> float:
        """Probability that at least `right` images are right if the labels are put to the outputs in a random order.

        The order is drawn `SHUFFLES` times. Images of one concept are never separated, since a judge that is wrong
        about one of them is usually wrong about the others.
        """
        draw, each = np.random.default_rng(0), np.arange(len(self.concepts))
        orders = (draw.permutation(len(self.labels))[: len(each)] for _ in range(SHUFFLES))
        as_good = sum(int(self.counts[each, order].sum()) >= self.right for order in orders)
        return (as_good + 1) / (SHUFFLES + 1)

    def can_tell(self) -> bool:
        """Whether a judge that is always right would be better than chance: not with two labels, for example."""
        return math.perm(len(self.labels), len(self.concepts)) >= 5 / CHANCE

    def best_order(self) -> np.ndarray:
        """The label of each concept, (C,), in the order of labels with which most images would be right."""
        from scipy.optimize import linear_sum_assignment

        return np.asarray(linear_sum_assignment(self.counts, maximize=True)[1])


def require_known(context: Context, compute: bool) -> None:
    """Raise InvalidEntry for a judge that does not know its concepts, or whose labels are in another order.

    See `mislabelled`, `exchanged` and `by_chance`. Raise it also if the untouched model draws nothing of what is to be
    forgotten (`bench.cells.checks.drawn`).

    Args:
        context: the run.
        compute: whether to sample and judge the images of the untouched model if the store does not have them. Every
            run needs them.
    """
    images = Images(context)(None) if compute else Images(context).stored(None)
    judged = Judgements(context)(images) if images and compute else images and Judgements(context).stored(images)
    for name, judge in context.judges.judges.items():
        concepts = tuple(c for c in context.plan.concepts if context.plan.world.judge_of(c) == name)
        said = f"world {context.plan.world.name!r}: judge {name!r}"
        real = [entry.facts for concept in concepts if (entry := Reference(context).stored(concept))]
        right, total = sum(facts["right"] for facts in real), sum(facts["count"] for facts in real)
        if len(real) == len(concepts) and by_chance(right, total, len(judge.labels)):
            raise InvalidEntry(
                f"{said} recognises {right} of {total} real pictures, no more than by chance among "
                f"{len(judge.labels)} labels; it must be trained, and its labels must have the order of its outputs"
            )
        if judged is None:
            continue
        predicted = judged.tensors()[f"judged.{name}"].numpy()
        counts = np.zeros((len(concepts), len(judge.labels)), dtype=int)
        row = {concept: i for i, concept in enumerate(concepts)}
        for concept, image in context.requested:
            if concept in row:
                counts[row[concept], predicted[image]] += 1
        require_right(said, Predictions(judge.labels, concepts, counts))
    if judged is not None:
        drawn.require_drawn(context)


def require_right(said: str, seen: Predictions) -> None:
    """Raise InvalidEntry if the images of the untouched model show that a judge or the prompts can't be right.

    Args:
        said: name of the judge for messages.
        seen: what the judge says about these images.
    """
    order, which = seen.best_order(), f"images of the untouched model of {len(seen.concepts)} concepts"
    wrong = exchanged(seen, order)
    if mislabelled(seen, order):
        wrong = [i for i, label in enumerate(order) if label != seen.own[i]]
    if wrong:
        most = max(wrong, key=lambda i: int(seen.counts[i, order[i]]))
        label, concept = seen.labels[order[most]], seen.concepts[most]
        raise InvalidEntry(
            f"{said} recognises {seen.right} of {seen.total} {which}, but calls {seen.counts[most, order[most]]} of "
            f"{seen.counts[most].sum()} images of {concept!r} {label!r}; its labels must have the order of its "
            "outputs, and each concept's prompts must ask for it"
        )
    if seen.total >= ENOUGH and seen.can_tell() and seen.chance() > CHANCE:
        raise InvalidEntry(
            f"{said} recognises {seen.right} of {seen.total} {which}, no more than by chance among "
            f"{len(seen.labels)} labels; the judge must know what it judges, and the model must be able to draw it"
        )


def mislabelled(seen: Predictions, order: np.ndarray) -> bool:
    """Whether a judge tells concepts apart, and calls them by wrong labels.

    With its own labels it is not better than chance. With the labels in `order` at least half of the images would be
    right, and after none of `SHUFFLES` shuffles of the images as many.
    """
    best = int(seen.counts[np.arange(len(order)), order].sum())
    if seen.total == 0 or 2 * best < seen.total or len(seen.labels) < 2 or seen.right * 2 > best:
        return False
    if seen.can_tell() and seen.chance() <= CHANCE:
        return False
    draw, sizes = np.random.default_rng(0), seen.counts.sum(1)
    predicted = np.repeat(np.arange(len(seen.labels)), seen.counts.sum(0))
    for _ in range(SHUFFLES):
        parts = np.split(draw.permutation(predicted), np.cumsum(sizes)[:-1])
        counts = np.stack([np.bincount(part, minlength=len(seen.labels)) for part in parts])
        shuffled = Predictions(seen.labels, seen.concepts, counts)
        if counts[np.arange(len(order)), shuffled.best_order()].sum() >= best:
            return False
    return True


def exchanged(seen: Predictions, order: np.ndarray) -> Sequence[int]:
    """Concepts that have each other's labels: most images of one have the label of the next, in a ring.

    `MOST` of the images of each must have the other's label, and in all so many that chance would hardly prefer it to
    their own (a sign test). Concepts with wrong labels that are not in such a ring may be bad drawings.
    """
    own = {int(label): i for i, label in enumerate(seen.own)}
    following = {i: own.get(int(label)) for i, label in enumerate(order)}
    for start in following:
        ring, at = [start], following[start]
        while at is not None and at not in ring:
            ring.append(at)
            at = following[at]
        if at != start or len(ring) < 2:
            continue
        other = [int(seen.counts[i, order[i]]) for i in ring]
        mine = sum(int(seen.counts[i, seen.own[i]]) for i in ring)
        clear = all(n >= MOST * seen.counts[i].sum() for i, n in zip(ring, other, strict=True))
        if clear and _at_least(sum(other), sum(other) + mine, 0.5) <= CERTAIN:
            return ring
    return ()


def by_chance(right: int, total: int, labels: int) -> bool:
    """Whether a judge recognises no more of many real pictures than by chance among `labels` (a binomial test)."""
    return total >= ENOUGH and labels > 1 and _at_least(right, total, 1 / labels) > CHANCE


def _at_least(successes: int, trials: int, chance: float) -> float:
    """Probability of at least `successes` in independent trials that each succeed with probability `chance`."""
    from scipy.special import bdtrc  # a command that computes nothing needs no scipy; scipy.stats is slow to import

    return float(bdtrc(successes - 1, trials, chance))
