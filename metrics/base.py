"""The types of a metric: its evidence, its score and its description. The evidence never names the method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from bench.core.score import Score
from metrics.column import Column
from metrics.probes import CaptionImages, HeadNouns, Probe, PromptProbes

NEEDS = (
    "domain_reference",
    "pretrained",
    "headnoun",
    "prompt_probes",
    "probe",
    "captions",
)  # names of the fields of Evidence that are computed only if a metric needs them


class MissingEvidence(ValueError):
    """The evidence is incomplete. A figure from it would rest on fewer images than it claims.

    Example, with the evidence of the example of Evidence:
        >>> evidence.require(["rose"])
        Traceback (most recent call last):
        metrics.base.MissingEvidence: wrong number of images: rose has 0, expected None
    """


@dataclass(frozen=True)
class Evidence:
    """The evaluation images of one task under one model, with the judges' predictions.

    A row stands for one image and one concept that its prompt names. An image whose prompt names two concepts can have
    two rows. There are N rows. `domain_reference`, `pretrained`, `headnoun`, `probe`, `prompt_probes` and `captions`
    are None unless a metric lists them in `Metric.needs`.

    Args:
        forget: the forgotten concepts.
        in_domain: the retained concepts in the domains of the forgotten concepts.
        out_of_domain: the retained concepts of other domains.
        requested: for each row, the concept that the prompt names, (N,).
        predicted: for each row, the prediction of the classifier that knows such concepts, (N,).
        counts: concept -> number of rows that it must have.
        images: for each row, the number of its image, (N,). Empty if every row is an image of its own.
        also_requested: for each row, all concepts that the image's prompt names, (N,), also those without a row. Empty
            if each prompt names only the concept in `requested`.
        held_out: concepts outside the task. Only the metrics `uc_ua`, `uc_ira` and `uc_cra` count their images.
        features: features of each row's image, float (N, D), from the extractor that `extractor` names.
        reference: concept -> features of its reference images, float (R, D). Held-out concepts are included. (0, 0) for
            a concept without reference images.
        reference_ids: concept -> one id per reference image, (R,), so that an image that two concepts share is counted
            once. Empty if concepts share no image. Forgotten and held-out concepts have an id for each of their
            images, so their tuple can be longer than R.
        extractor: name of the feature extractor.
        domains: forgotten concept -> every concept of its domain, itself included. The domain of a style: all styles.
        labels: all labels that the judges of the forgotten concepts can predict.
        nearest: the in-domain concepts that are nearest to a forgotten concept by text embedding.
        penultimate: for each row, the input of the last layer of the judge that knows the concept, float (N, D). A
            shorter vector is padded with zeros.
        latents: for each row, the final latents that the VAE decoded, float (N, C, h, w).
        alignment: for each row, the cosine of image and prompt under the world's CLIP model, float (N,), -1 to 1. None
            if the world has no CLIP model.
        domain_reference: concept -> features of its reference images, float (R, D), for every concept in the domains
            of the forgotten concepts.
        pretrained: evidence of the pretrained model with the same prompts and the same noise, row by row.
        headnoun: images whose prompts hold only a head noun.
        probe: noise predictions for the images of forgotten concepts.
        prompt_probes: noise predictions for the images of forgotten concepts with other prompts.
        captions: images for the world's captions of any scenes.

    Example:
        >>> evidence = Evidence(
        ...     forget=("tulip",),
        ...     in_domain=("daisy",),
        ...     out_of_domain=(),
        ...     requested=("tulip", "tulip", "daisy", "daisy"),
        ...     predicted=("daisy", "tulip", "daisy", "daisy"),
        ...     counts={"tulip": 2, "daisy": 2},
        ...     features=torch.zeros(4, 8),
        ...     reference={"tulip": torch.zeros(3, 8), "daisy": torch.zeros(5, 8)},
        ... )
        >>> 1 - evidence.accuracy(evidence.forget).value
        0.5
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
    captions: CaptionImages | None = None

    @property
    def retained(self) -> tuple[str, ...]:
        """The concepts that the model must keep: in-domain concepts first.

        Example, with the evidence of the example of Evidence:
            >>> evidence.retained
            ('daisy',)
        """
        return self.in_domain + self.out_of_domain

    def require(self, concepts: Sequence[str]) -> None:
        """Raise MissingEvidence unless each of `concepts` has as many rows as `counts` says, and each is judged.

        Example, with the evidence of the example of Evidence:
            >>> evidence.require(evidence.forget)
        """
        require_counts(self.requested, self.predicted, concepts, self.counts)

    def rows(self, concepts: Sequence[str], whole: bool = False) -> list[int]:
        """The indices of the rows of `concepts`, 0 to N - 1, in order.

        An image is left out if its prompt also names a held-out concept. An image of a retained concept is left out,
        too, if its prompt also names a forgotten concept, because the task does not say how it should look.

        Args:
            concepts: concepts of the task.
            whole: whether to keep the images that are otherwise left out.

        Example, with the evidence of the example of Evidence:
            >>> evidence.rows(["daisy"])
            [2, 3]
        """
        held_out, not_retained = set(self.held_out), {*self.held_out, *self.forget}
        excluded = {c: set() if whole else (held_out if c in self.forget else not_retained) - {c} for c in concepts}
        named = self.also_requested or [{c} for c in self.requested]
        return [i for i, c in enumerate(self.requested) if c in excluded and excluded[c].isdisjoint(named[i])]

    def mean(self, values: Sequence[float] | torch.Tensor, concepts: Sequence[str], whole: bool = False) -> Score:
        """The mean of `values` over the rows of `concepts` that `rows` gives.

        Args:
            values: one value per row, (N,).
            concepts: concepts of the task.
            whole: as in `rows`.

        Raises MissingEvidence if `require` does, if `values` is not N long, or if no row is left.

        Example, with the evidence of the example of Evidence:
            >>> evidence.mean([0.0, 0.0, 1.0, 2.0], ["daisy"])
            Score(value=1.5, n=2)
        """
        self.require(concepts)
        if len(values) != len(self.requested):
            raise MissingEvidence(f"{len(self.requested)} images were requested, but {len(values)} were measured")
        kept = [float(values[i]) for i in self.rows(concepts, whole)]
        if not kept:
            raise MissingEvidence(f"every prompt of {', '.join(concepts)} also names a forgotten or held-out concept")
        return Score(sum(kept) / len(kept), len(kept))

    def accuracy(self, concepts: Sequence[str], whole: bool = False) -> Score:
        """The share, 0 to 1, of the rows of `concepts` for which the classifier predicts the requested concept.

        Args:
            concepts: concepts of the task.
            whole: as in `rows`.

        Raises MissingEvidence as `mean`.

        Example, with the evidence of the example of Evidence:
            >>> evidence.accuracy(evidence.forget)
            Score(value=0.5, n=2)
        """
        self.require(concepts)
        return self.mean([a == j for a, j in zip(self.requested, self.predicted, strict=True)], concepts, whole)

    def has_reference(self, concepts: Sequence[str]) -> bool:
        """Whether all of `concepts` have reference images. A world may have none of a concept.

        Concepts that are not in `reference` count as if they had some; `features_of` raises MissingEvidence for them.

        Example, with the evidence of the example of Evidence:
            >>> evidence.has_reference(["daisy"])
            True
        """
        return all(len(self.reference[c]) for c in concepts if c in self.reference)

    def features_of(self, concepts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The features of the images of `concepts` and of their reference images, float64 (n, D) and (m, D).

        `rows` says which images are left out. If reference images have ids, each image and each reference image is
        taken once, and a reference image that also shows another forgotten or held-out concept is left out.

        Raises MissingEvidence if `require` does, or if features of an image or of a reference image are missing.

        Example, with the evidence of the example of Evidence:
            >>> drawn, real = evidence.features_of(["daisy"])
            >>> drawn.shape, real.shape
            (torch.Size([2, 8]), torch.Size([5, 8]))
        """
        self.require(concepts)
        excluded = [c for c in (*self.forget, *self.held_out) if c not in concepts]
        missing = [c for c in (*concepts, *(excluded if self.reference_ids else ())) if c not in self.reference]
        require_features(missing, self)
        rows = self.rows(concepts)
        if not self.reference_ids:
            return self.features[rows].double(), torch.cat([self.reference[c] for c in sorted(set(concepts))]).double()
        row_of_image = {self.images[i] if self.images else i: i for i in reversed(rows)}
        drawn = self.features[sorted(row_of_image.values())].double()
        excluded_ids = {id_ for c in excluded for id_ in self.reference_ids[c]}
        pool: dict[str, torch.Tensor] = {}
        for c in sorted(set(concepts)):
            ids = zip(self.reference_ids[c], self.reference[c], strict=True)
            pool |= {id_: row for id_, row in ids if id_ not in excluded_ids}
        return drawn, torch.stack([*pool.values()]).double()


def require_features(missing: Sequence[str], evidence: Evidence) -> None:
    """Raise MissingEvidence if `missing` names a concept without reference images, or if a row has no features."""
    if missing:
        raise MissingEvidence(f"no reference images of {', '.join(missing)}")
    if len(evidence.features) != len(evidence.requested):
        raise MissingEvidence(
            f"{len(evidence.requested)} images were requested, but {len(evidence.features)} have features"
        )


def require_counts(
    requested: Sequence[str], judged: Sequence[object], concepts: Sequence[str], expected: Mapping[str, int]
) -> None:
    """Raise MissingEvidence unless each of `concepts` has its expected number of images, and every image is judged.

    Args:
        requested: for each image, the concept that its prompt names.
        judged: one entry per judged image.
        concepts: the concepts to check, at least one.
        expected: concept -> number of images.

    Example:
        >>> require_counts(["tulip", "tulip"], ["daisy", "tulip"], ["tulip"], {"tulip": 2})
    """
    if len(requested) != len(judged):
        raise MissingEvidence(f"{len(requested)} images were requested, but {len(judged)} were judged")
    if not concepts:
        raise MissingEvidence("the list of concepts to measure is empty")
    counts = Counter(requested)
    wrong = [f"{c} has {counts[c]}, expected {expected.get(c)}" for c in concepts if counts[c] != expected.get(c)]
    if wrong:
        raise MissingEvidence(f"wrong number of images: {', '.join(wrong)}")


@dataclass(frozen=True)
class Metric:
    """A function from one cell's evidence to a number, and the facts that boards need about it.

    Args:
        name: name of the metric and of its column.
        about: the formula, in one line.
        unit: "%", another unit, or "" for a plain number. If it is "%", `compute` returns a fraction, and boards show
            100 times the fraction.
        higher_is_better: whether a higher value is better.
        low, high: smallest and largest value that `compute` can return.
        source: the paper or the project that defines the metric.
        compute: evidence -> score. It raises MissingEvidence if images are missing. It returns None if the task has
            nothing that the metric measures; this must depend on the task only, never on the model.
        retention: whether boards also show the drop from the pretrained model's value on the same noise.
        distribution: whether the metric compares sets of images. The bias of such a metric depends on the number of
            images, so every cell must have the same number.
        each: evidence -> one value per row, (N,), if the metric is the mean of these values. The table of concepts
            then has the metric too. It returns None if `compute` does.
        needs: the parts of Evidence, out of NEEDS, that the metric reads. They are computed only if a metric needs
            them.
        along: whether `--curve` measures the metric during the training. Such a metric may read only the predictions
            for the forgotten concepts and their neighbours.
        headline: whether the table in the terminal shows the metric. Files have every metric.
        digits: number of decimals in that table.
        files: files and folders that `compute` reads. Cache keys contain their contents.
        version: version of the formula of a built-in metric. Raise it when the figures change; stored figures are
            then computed again. A plug-in leaves it at 1, because its cache key contains its source code.

    Example:
        >>> def forgotten(evidence):
        ...     kept = evidence.accuracy(evidence.forget)
        ...     return Score(1 - kept.value, kept.n)
        >>> about = "1 - accuracy on the forgotten concepts"
        >>> metric = Metric("mine", about, "%", True, 0.0, 1.0, "an example", forgotten)
        >>> metric.compute(evidence)  # of the example of Evidence
        Score(value=0.5, n=2)
        >>> metric.column.arrow
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
    files: tuple[str | Path, ...] = ()

    @property
    def column(self) -> Column:
        """How the metric's figures are shown."""
        better: Literal["higher", "lower"] = "higher" if self.higher_is_better else "lower"
        return Column(self.name, self.about, self.unit, better, self.digits, self.headline)
