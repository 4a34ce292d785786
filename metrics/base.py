"""What a metric is, and the evidence it may look at: images of one cell and what was asked for, never the method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bench.core.score import Score

NEEDS = (
    "domain_reference",
    "pretrained",
    "headnoun",
    "prompt_probes",
    "probe",
)  # the optional parts of Evidence, by field name


class MissingEvidence(ValueError):
    """Evidence is incomplete, so a figure would have a smaller denominator than it claims."""


@dataclass(frozen=True)
class HeadNouns:
    """Images prompted with nothing but the head noun of a forgotten concept ("a photo of a retriever").

    Args:
        requested: the forgotten concept whose head noun each of the M images was asked for.
        predicted: concept that the world's classifier saw in each.
        named: forgotten concept -> every concept that its head noun names, itself among them.
    """

    requested: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """How the model predicts noise for the images of forgotten concepts, with their prompts and without.

    Args:
        requested: concept that each of the M images was asked to show.
        gaps: ||eps(x_l, c) - eps(x_l, null)||^2 of each image at each noise level, float (M, T).
        logsnr: l, the log-SNR of these levels, float (T,).
    """

    requested: tuple[str, ...]
    gaps: torch.Tensor
    logsnr: torch.Tensor


@dataclass(frozen=True)
class PromptProbes:
    """How the model predicts noise for the images of forgotten concepts when it is told less, or something else.

    Args:
        requested: concept that each of the M images was asked to show.
        null: ||eps(x_l, c) - eps(x_l, null)||^2 of each image at each noise level, as in Probe, float (M, T).
        looked: where the others were looked at, bool (M, T): an image sees some of the levels.
        logsnr: l, the log-SNR of these levels, float (T,).
        others: ||eps(x_l, c) - eps(x_l, y)||^2, float (M, T): for y the concept's word alone ("word"), for its prompt
            without the word ("rest"), for its prompt with the nearest neighbour's word ("near"), where there are such.
        has: "rest" or "near" -> the forgotten concepts that have one.
    """

    requested: tuple[str, ...]
    null: torch.Tensor
    looked: torch.Tensor
    logsnr: torch.Tensor
    others: Mapping[str, torch.Tensor]
    has: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Evidence:
    """The evaluation images of one task under one model, as judged.

    Args:
        forget, in_domain, out_of_domain: the task's concepts by role.
        requested: concept that each of the N rows was asked to show. An image that was asked to show two has two rows.
        predicted: concept that the classifier which knows such concepts saw in each.
        counts: concept -> rows that it must have.
        images: which image each row is, (N,); empty: every row is an image of its own.
        also_requested: every concept that the prompt of each row's image asks for, (N,), whether or not that concept
            has a row; empty: `requested` alone.
        held_out: concepts outside of the task whose images only a published way of counting takes in.
        features: of each image, float (N, D), by torch-fidelity's extractor called `extractor`.
        reference: concept -> features of real pictures of it, float (R, D). For all concepts, held-out ones too.
        reference_ids: concept -> one id per reference image, so that an image that two concepts share is counted once;
            empty if concepts share no image. Forgotten and held-out concepts have an id for every image that there is.
        domains: forgotten concept -> every concept of its domain, itself among them; for a style, all styles.
        labels: what the judges of the forgotten concepts can answer.
        nearest: the in-domain concepts that are closest to a forgotten one.
        penultimate: of each image, float (N, D): what the judge that knows its concept feeds to its last layer; zeros
            behind it where another judge's is longer.
        latents: of each image, float (N, C, h, w): the final ones, of which it was decoded.
        alignment: cosine of each image and its prompt under the world's CLIP model, float (N,); None without one.
        domain_reference: optional: the same as `reference` of all concepts in the domains of the forgotten ones.
        pretrained: optional: the same of the untouched model, on the same noise, image by image.
        headnoun: optional: what head nouns alone give.
        probe: optional: the model's predictions for the images of forgotten concepts.
        prompt_probes: optional: the same with other prompts than theirs.
    """

    forget: tuple[str, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    requested: tuple[str, ...]
    predicted: tuple[str, ...]
    counts: Mapping[str, int]
    images: tuple[int, ...] = ()
    also_requested: tuple[frozenset[str], ...] = ()
    held_out: tuple[str, ...] = ()
    features: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    reference: Mapping[str, torch.Tensor] = field(default_factory=dict)
    reference_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extractor: str = ""
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    nearest: tuple[str, ...] = ()
    penultimate: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    latents: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0, 0, 0))
    alignment: torch.Tensor | None = None
    domain_reference: Mapping[str, torch.Tensor] | None = None
    pretrained: Evidence | None = None
    headnoun: HeadNouns | None = None
    probe: Probe | None = None
    prompt_probes: PromptProbes | None = None

    @property
    def retained(self) -> tuple[str, ...]:
        """Concepts that must stay."""
        return self.in_domain + self.out_of_domain

    def require(self, concepts: Sequence[str]) -> None:
        """Raise MissingEvidence unless every one of `concepts` has exactly its `counts` of judged rows."""
        require_counts(self.requested, self.predicted, concepts, self.counts)

    def rows(self, concepts: Sequence[str], whole: bool = False) -> list[int]:
        """The rows of `concepts`; unless `whole`, without images that also ask for something else that decides.

        Of a concept that must stay these are images that also ask for a forgotten one: what should become of them is
        not said. Of any, those that also ask for a concept aside.
        """
        aside, gone = set(self.held_out), {*self.held_out, *self.forget}
        apart = {c: set() if whole else (aside if c in self.forget else gone) - {c} for c in concepts}
        shows = self.also_requested or [{c} for c in self.requested]
        return [i for i, c in enumerate(self.requested) if c in apart and apart[c].isdisjoint(shows[i])]

    def mean(self, values: Sequence[float] | torch.Tensor, concepts: Sequence[str], whole: bool = False) -> Score:
        """Mean of `values`, one for each row, over the `rows` of `concepts`. Raises MissingEvidence."""
        self.require(concepts)
        if len(values) != len(self.requested):
            raise MissingEvidence(f"{len(self.requested)} images were asked for, {len(values)} were measured")
        kept = [float(values[i]) for i in self.rows(concepts, whole)]
        if not kept:
            raise MissingEvidence(f"every image of {', '.join(concepts)} also asks for a forgotten concept")
        return Score(sum(kept) / len(kept), len(kept))

    def accuracy(self, concepts: Sequence[str], whole: bool = False) -> Score:
        """Share of the `rows` of `concepts` that are judged as the concept asked for. Raises MissingEvidence."""
        self.require(concepts)
        return self.mean([a == j for a, j in zip(self.requested, self.predicted, strict=True)], concepts, whole)

    def features_of(self, concepts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the images of `concepts` and of real pictures of them, double (n, D) and (m, D), pooled.

        Without images that also ask for a forgotten concept or one aside (see `rows`). Where real pictures have names,
        each image and each real picture comes once, and real pictures that also show such a concept stay out. Raises
        MissingEvidence.
        """
        self.require(concepts)
        apart = [c for c in (*self.forget, *self.held_out) if c not in concepts]
        missing = [c for c in (*concepts, *(apart if self.reference_ids else ())) if c not in self.reference]
        if missing or len(self.features) != len(self.requested):
            raise MissingEvidence(f"no real pictures of {missing}, or features of only {len(self.features)} images")
        rows = self.rows(concepts)
        if not self.reference_ids:
            return self.features[rows].double(), torch.cat([self.reference[c] for c in sorted(set(concepts))]).double()
        once = {self.images[i] if self.images else i: i for i in reversed(rows)}
        drawn = self.features[sorted(once.values())].double()
        shown = {name for c in apart for name in self.reference_ids[c]}
        pool: dict[str, torch.Tensor] = {}
        for c in sorted(set(concepts)):
            pool |= {n: row for n, row in zip(self.reference_ids[c], self.reference[c], strict=True) if n not in shown}
        return drawn, torch.stack([*pool.values()]).double()


def require_counts(
    asked: Sequence[str], seen: Sequence[object], concepts: Sequence[str], due: Mapping[str, int]
) -> None:
    """Raise MissingEvidence unless each of `concepts` was asked for as often as is `due`, and all of it was seen."""
    if len(asked) != len(seen):
        raise MissingEvidence(f"{len(asked)} images were asked for, {len(seen)} were judged")
    if not concepts:
        raise MissingEvidence("there is no concept to measure on")
    counts = Counter(asked)
    wrong = [f"{c}: {counts[c]} of {due.get(c)}" for c in concepts if counts[c] != due.get(c)]
    if wrong:
        raise MissingEvidence(f"other numbers of images than are due; {', '.join(wrong)}")


@dataclass(frozen=True)
class Metric:
    """A number computed from one cell's evidence.

    Args:
        name: column name.
        about: formula in one line.
        unit: "%" (`compute` returns a fraction, boards show a hundredfold), another unit, or "" for a plain number.
        higher_is_better: direction.
        low, high: range of `compute`.
        source: where the metric comes from.
        compute: evidence -> score; raises MissingEvidence rather than measure on less. None where the task asks for
            nothing that the metric could measure: that must follow from the task alone, never from the model.
        retention: whether boards also show how far it dropped from the pretrained model's value on the same noise.
        distribution: whether it compares sets of images: its bias depends on N, so N must be the same in every cell.
        each: evidence -> one value for each image, for metrics that are their mean: concepts then have the figure too.
            None where `compute` gives none.
        needs: optional parts of Evidence that cost time to get, some of NEEDS; others are always there.
        along: whether `--curve` measures it along a training: it looks at forgotten concepts and neighbours alone, and
            at nothing but what the classifier saw in them.
        headline: whether the table in the terminal shows it; files have every metric.
        digits: decimals in that table.
        version: of the formula, for Lethe's own metrics: raised when figures change, and then they are computed again.
            A plug-in needs none: it is known by its source code.

    Example:
        >>> def forgotten(evidence):
        ...     hits = [p == r for p, r in zip(evidence.predicted, evidence.requested) if r in evidence.forget]
        ...     return Score(1 - sum(hits) / len(hits), len(hits))
        >>> metric = Metric("mine", "1 - accuracy on what is forgotten", "%", True, 0.0, 1.0, "an example", forgotten)
        >>> metric.arrow
        '↑'
    """

    name: str
    about: str
    unit: str
    higher_is_better: bool
    low: float
    high: float
    source: str
    compute: Callable[[Evidence], Score | None]
    retention: bool = False
    distribution: bool = False
    each: Callable[[Evidence], Sequence[float] | torch.Tensor | None] | None = None
    needs: tuple[str, ...] = ()
    along: bool = False
    headline: bool = False
    digits: int = 1
    version: int = 1

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"
