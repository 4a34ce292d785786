"""What a metric is, and the evidence it may look at: images of one cell and what was asked for, never the method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch


class MissingEvidence(ValueError):
    """Evidence is incomplete, so a figure would have a smaller denominator than it claims."""


@dataclass(frozen=True)
class Evidence:
    """The evaluation images of one task under one model, as judged.

    Args:
        forget, in_domain, out_of_domain: the task's concepts by role.
        asked: concept that each of the N images was asked to show.
        judged: concept that the world's classifier saw in each.
        images_per_concept: images that every concept must have.
        features: of each image, float (N, D), by torch-fidelity's extractor called `extractor`.
        reference: concept -> features of real pictures of it, float (R, D); R is the same for all.
    """

    forget: tuple[str, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    asked: tuple[str, ...]
    judged: tuple[str, ...]
    images_per_concept: int
    features: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    reference: Mapping[str, torch.Tensor] = field(default_factory=dict)
    extractor: str = ""

    @property
    def retained(self) -> tuple[str, ...]:
        """Concepts that must stay."""
        return self.in_domain + self.out_of_domain

    def require(self, concepts: Sequence[str]) -> None:
        """Raise MissingEvidence unless every one of `concepts` has exactly `images_per_concept` judged images."""
        if len(self.asked) != len(self.judged):
            raise MissingEvidence(f"{len(self.asked)} images were asked for, {len(self.judged)} were judged")
        if not concepts:
            raise MissingEvidence("there is no concept to measure on")
        counts = Counter(self.asked)
        wrong = {c: counts[c] for c in concepts if counts[c] != self.images_per_concept}
        if wrong:
            raise MissingEvidence(f"{self.images_per_concept} images of each concept are due; there are {wrong}")

    def accuracy(self, concepts: Sequence[str]) -> Score:
        """Share of the images of `concepts` that are judged as the concept asked for. Raises MissingEvidence."""
        self.require(concepts)
        wanted = set(concepts)
        right = [a == j for a, j in zip(self.asked, self.judged, strict=True) if a in wanted]
        return Score(sum(right) / len(right), len(right))


@dataclass(frozen=True)
class Score:
    """A figure and the number of images it rests on."""

    value: float
    n: int


@dataclass(frozen=True)
class Metric:
    """A number computed from one cell's evidence.

    Args:
        name: column name.
        about: formula in one line.
        unit: "%" (`compute` returns a fraction, boards show a hundredfold) or "" for a plain number.
        higher_is_better: direction.
        low, high: range of `compute`.
        source: where the metric comes from.
        compute: evidence -> score; raises MissingEvidence rather than measure on less.
        retention: whether boards also show how far it dropped from the pretrained model's value on the same noise.
    """

    name: str
    about: str
    unit: str
    higher_is_better: bool
    low: float
    high: float
    source: str
    compute: Callable[[Evidence], Score]
    retention: bool = False
