"""Partial information decomposition of the information that two parts of a prompt have about the image.

Two sources y1 and y2 have information about an image x. The information that both have is redundant (R). The
information that only one source has is unique to it (U1, U2). The information that only both together have is
synergistic (S). So I(x;y1) = R + U1, I(x;y2) = R + U2, I(x;y1,y2) = R + U1 + U2 + S, and I(x;y1|y2) = U1 + S. These
three informations do not determine the four parts. R is therefore defined as min(I(x;y1), I(x;y2)), the minimum mutual
information (Barrett 2015). It is the largest R for which no unique part is negative.

DiffusionPID (Dewan et al., 2024) decomposes pointwise, after Finn and Lizier (2018): its R is min(h(y1), h(y2)) -
min(h(y1|x), h(y2|x)), where h is the surprisal of a word. Since h(y|x) = h(y) - i(x;y), this needs a prior over words,
and a denoiser has no such prior. With equal priors the formula is max(i(x;y1), i(x;y2)), and the part that is unique to
the weaker source is negative.

An information is estimated by Kong et al.'s orthogonal estimator, i(x;y|z) = 1/2 integral ||eps(x_l|y,z) -
eps(x_l|z)||^2 dl over the log-SNR l. The estimator is valid only if x comes from p(x|y,z). The images come from the
whole prompt, so the estimator gives i(x;y1,y2) and i(x;y2|y1). Their difference is i(x;y1) by the chain rule (see
`told`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts
from metrics.probes import PromptProbes

SOURCE = "after Dewan et al., NeurIPS 2024 (arXiv 2406.05191), with minimum mutual information; Kong et al., ICLR 2024"


@dataclass(frozen=True)
class Parts:
    """The four parts, in nats: unique to the first source, unique to the second, redundant, synergistic."""

    first: float
    second: float
    redundant: float
    synergistic: float


def decompose(first: float, second: float, both: float) -> Parts:
    """The four parts from I(x;y1), I(x;y2) and I(x;y1,y2), in nats.

    All parts are at least 0 if 0 <= I(x;y1) <= I(x;y1,y2) and 0 <= I(x;y2) <= I(x;y1,y2).
    """
    redundant = min(first, second)
    return Parts(first - redundant, second - redundant, redundant, both - max(first, second))  # I12 - I1 - I2 + R


def information(gaps: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
    """1/2 integral of `gaps` over the log-SNR, by the trapezoid rule, in nats: float64 (...).

    Args:
        gaps: float (..., T), at least 0.
        logsnr: log-SNRs in any order, float (T,). The integral goes from the smallest to the largest.
    """
    return _down_to(gaps, logsnr)[..., -1]


def told(whole: torch.Tensor, missing: torch.Tensor, logsnr: torch.Tensor) -> float:
    """The information that y, a part of the prompt c, has about images from p(x|c), in nats.

    1/2 integral (whole - missing) dl from the noisiest level to level l is the mean of log p(x_l|y) / p(x_l), the
    information about the noised image x_l. The result is the largest of these integrals over l. It is 0 to
    `information(whole, logsnr)`. Details that y predicts wrongly do not reduce the information about coarser
    features that y predicts rightly, and a source that is wrong at every level has 0.

    Args:
        whole: mean over the images of ||eps(x_l|c) - eps(x_l)||^2, float (T,).
        missing: mean over the images of ||eps(x_l|c) - eps(x_l|y)||^2, float (T,).
        logsnr: log-SNR l of each level, float (T,).
    """
    return float(_down_to(whole - missing, logsnr).max())


def _down_to(gaps: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
    """1/2 integral from the smallest log-SNR to each log-SNR, in rising order, float64 (..., T). The first is 0."""
    order = logsnr.argsort()
    parts = torch.cumulative_trapezoid(gaps[..., order].double(), logsnr[order].double(), dim=-1) / 2
    return torch.nn.functional.pad(parts, (1, 0))


@dataclass(frozen=True)
class ConceptProbe:
    """The fields of PromptProbes for one forgotten concept, as means over its images.

    Args:
        logsnr: log-SNR of the T levels, float (T,).
        whole: mean gap of the whole prompt and the null prompt, float64 (T,).
        others: name of another prompt -> mean gap of the whole prompt and that prompt, float64 (T,).
    """

    logsnr: torch.Tensor
    whole: torch.Tensor
    others: dict[str, torch.Tensor]

    def told(self, name: str) -> float:
        """The information that the prompt `name` of PromptProbes has about the images, in nats."""
        return told(self.whole, self.others[name], self.logsnr)

    def parts(self) -> Parts:
        """The four parts for the concept's word (the first source) and the rest of the prompt (the second)."""
        return decompose(self.told("word"), self.told("rest"), float(information(self.whole, self.logsnr)))


def probe_of(evidence: Evidence, concept: str) -> ConceptProbe:
    """The means over the images of one forgotten concept. Raises MissingEvidence."""
    probes = _prompt_probes(evidence)
    of_concept = _images_of(probes, concept)
    probed = probes.looked[of_concept]
    levels = _levels(probes, concept)
    if len(levels) < 2:
        raise MissingEvidence(f"the images of {concept} were probed at {len(levels)} noise levels, not at 2 or more")

    def mean(gaps: torch.Tensor) -> torch.Tensor:
        values = torch.where(probed, gaps[of_concept].double(), 0.0)  # other values may be anything
        return (values.sum(0) / probed.sum(0))[levels]

    others = {name: mean(gaps) for name, gaps in probes.others.items()}
    return ConceptProbe(probes.logsnr[levels], mean(probes.null), others)


def _levels(probes: PromptProbes, concept: str) -> torch.Tensor:
    """Indices of the noise levels at which the images of a concept were probed, (L,)."""
    return probes.looked[_images_of(probes, concept)].any(0).nonzero().flatten()


def _images_of(probes: PromptProbes, concept: str) -> torch.Tensor:
    """Which images ask for a concept, bool (N,)."""
    return torch.tensor([requested == concept for requested in probes.requested])


def _prompt_probes(evidence: Evidence) -> PromptProbes:
    if evidence.prompt_probes is None:
        raise MissingEvidence("evidence.prompt_probes is missing: the model was not probed with other prompts")
    return evidence.prompt_probes


def _mean(evidence: Evidence, prompt: str, figure: Callable[[ConceptProbe], float]) -> Score | None:
    """Mean of `figure` over the images of the forgotten concepts that have the other prompt `prompt`.

    It is not defined, None, if images were probed at fewer than two noise levels.
    """
    probes = _prompt_probes(evidence)
    concepts = [concept for concept in evidence.forget if concept in probes.has.get(prompt, ())]
    if evidence.forget and not concepts:
        return None
    require_counts(probes.requested, list(probes.null), concepts, evidence.counts)
    if any(len(_levels(probes, concept)) < 2 for concept in concepts):
        return None
    n = [probes.requested.count(concept) for concept in concepts]
    values = [figure(probe_of(evidence, concept)) for concept in concepts]
    return Score(sum(v * k for v, k in zip(values, n, strict=True)) / sum(n), sum(n))


def compute_unique(evidence: Evidence) -> Score | None:
    """U1 of the concept's word y1 and the rest of its prompt y2, in nats, mean over the forgotten concepts' images.

    x are the images that the unlearned model draws for the concept's evaluation prompts c = (y1, y2). The prompt for y1
    is the concept's name alone. The prompt for y2 is the whole prompt with the broadest word, such as "dog", in place
    of the name. The value is 0 to infinity, less is better. It is 0 if the name has no information beyond the broad
    word. As with `mi`, a ruined model has a low value, a word with a new meaning has a high value, and guidance and
    the noise schedule make the value approximate.

    Returns None if the world has no broader word for any forgotten concept. Raises MissingEvidence.
    """
    return _mean(evidence, "rest", lambda probe: probe.parts().first)


def compute_redundant(evidence: Evidence) -> Score | None:
    """R of the concept's word and the rest of its prompt, in nats, mean over the forgotten concepts' images.

    The sources are those of `compute_unique`. The value is 0 to infinity, more is better. A method that removes only
    the concept keeps it. A method that removes the meaning of the whole prompt lowers it. The pretrained model's value
    is the most to expect. Returns None as `compute_unique` does. Raises MissingEvidence.
    """
    return _mean(evidence, "rest", lambda probe: probe.parts().redundant)


def compute_synergy(evidence: Evidence) -> Score | None:
    """S of the concept's word and the rest of its prompt, in nats, mean over the forgotten concepts' images.

    The sources are those of `compute_unique`. The value is 0 to infinity, less is better. The sum of this value and
    `compute_unique` is I(x;y1|y2), the information that the word adds to the rest. Returns None as `compute_unique`
    does. Raises MissingEvidence.
    """
    return _mean(evidence, "rest", lambda probe: probe.parts().synergistic)


def compute_shared(evidence: Evidence) -> Score | None:
    """R of the concept's prompt and the prompt with its nearest neighbour's name, in nats, mean over the images.

    It is the information that the neighbour's prompt has about the forgotten concept's images (`told`), that is, about
    the coarse features that both concepts share. The neighbour's prompt never has more information than the concept's
    own prompt, so it is the minimum of both. The value is 0 to infinity, more is better, because a method that removes
    only the concept's unique features keeps it. The pretrained model's value is the most to expect, except from a
    method that maps the concept to the neighbour. Returns None if the task retains no neighbour. Raises
    MissingEvidence.
    """
    return _mean(evidence, "near", lambda probe: probe.told("near"))


def _metric(name: str, about: str, better: bool, compute: Callable[[Evidence], Score | None]) -> Metric:
    return Metric(name, about, "nats", better, 0.0, float("inf"), SOURCE, compute, needs=("prompt_probes",), digits=2)


UNIQUE = _metric(
    "pid_unique",
    "what of the image the forgotten concept's word alone tells, and the rest of the prompt does not",
    False,
    compute_unique,
)
REDUNDANT = _metric(
    "pid_redundant",
    "what of the image the forgotten concept's word tells, and the rest of the prompt as well",
    True,
    compute_redundant,
)
SYNERGY = _metric(
    "pid_synergy",
    "what of the image only the forgotten concept's word and the rest of the prompt together tell",
    False,
    compute_synergy,
)
SHARED = _metric(
    "pid_shared",
    "what of the forgotten concept's image the nearest neighbour's word tells as well",
    True,
    compute_shared,
)
