"""Whether the untouched model draws a concept at all: the judge must recognise enough of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.cells.images import Images
from bench.cells.judges import Judgements
from bench.plan.plugin_checks import InvalidEntry

if TYPE_CHECKING:
    from bench.cells.artifacts import Context
    from bench.core.task import Task


@dataclass(frozen=True)
class Recognised:
    """How many of the untouched model's evaluation images of a concept its judge recognises.

    Args:
        concept: the concept.
        right: number of images that the judge recognises.
        total: number of images.
        line: share from which on the model draws the concept.
    """

    concept: str
    right: int
    total: int
    line: float

    @property
    def drawn(self) -> bool:
        """Whether the model draws the concept."""
        return self.right >= self.line * self.total

    @property
    def reason(self) -> str:
        """Why no figure counts the concept, as a sentence without its end; "" if figures count it."""
        if self.drawn:
            return ""
        return (
            f"the untouched model does not draw {self.concept!r}: the judge recognises {self.right} of its "
            f"{self.total} images, fewer than {self.line:.0%}"
        )


def recognised(context: Context) -> dict[str, Recognised]:
    """Concept -> what the judge says about the untouched model's images; {} for a world without a line."""
    line = context.plan.world.drawn_from
    if line is None:
        return {}
    found: dict[str, Recognised] = context.once("recognised", None, lambda: _recognised(context, line))
    return found


def _recognised(context: Context, line: float) -> dict[str, Recognised]:
    judged = Judgements(context)(Images(context)(None)).tensors()
    right = dict.fromkeys(context.plan.concepts, 0)
    total = dict(right)
    for concept, image in context.requested:
        total[concept] += 1
        right[concept] += context.judges.label(concept, judged, image) == concept
    return {concept: Recognised(concept, right[concept], total[concept], line) for concept in total}


def undrawn(context: Context, concepts: Sequence[str]) -> tuple[str, ...]:
    """Those of `concepts` that the untouched model does not draw."""
    known = recognised(context)
    return tuple(concept for concept in concepts if concept in known and not known[concept].drawn)


def is_measured(context: Context, task: Task) -> bool:
    """Whether the untouched model draws every concept that a task forgets. Otherwise forgetting has no meaning."""
    return not undrawn(context, task.forget)


def require_drawn(context: Context) -> None:
    """Raise InvalidEntry if there is no task all of whose forgotten concepts the untouched model draws."""
    if any(is_measured(context, task) for task in context.plan.tasks):
        return
    known, world = recognised(context), context.plan.world.name
    (first, *others) = undrawn(context, list(dict.fromkeys(c for task in context.plan.tasks for c in task.forget)))
    more = f"; nor does it draw {', '.join(map(repr, others))}" if others else ""
    raise InvalidEntry(
        f"world {world!r}: {known[first].reason}{more}; nothing is left to measure: the judge must know the concepts, "
        "and the prompts must ask the model for something that it can draw"
    )
