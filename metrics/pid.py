"""Partial information decomposition: what of the picture the concept's word alone says, and what others say as well.

Two sources, y1 and y2, tell about a picture x. What both tell is redundant (R), what one alone tells is unique to it
(U1, U2), what only both together tell is synergistic (S): I(x;y1) = R + U1, I(x;y2) = R + U2, I(x;y1,y2) = R + U1 + U2
+ S, and so I(x;y1|y2) = U1 + S. Three informations leave one of four parts open. R is taken as min(I(x;y1), I(x;y2)),
minimum mutual information (Barrett 2015): the largest that leaves no unique part negative.

DiffusionPID (Dewan et al., 2024) decomposes point by point, after Finn and Lizier (2018), by min(h(y1), h(y2)) -
min(h(y1|x), h(y2|x)) with h the surprisal of a word. h(y|x) = h(y) - i(x;y), so it needs a prior over words, which
no denoiser has; with equal priors the formula is max(i(x;y1), i(x;y2)), and what is unique to the weaker is negative.

Informations are Kong et al.'s orthogonal estimator: i(x;y|z) = 1/2 integral ||eps(x_l|y,z) - eps(x_l|z)||^2 dl over
the log-SNR l. It stands for what it is called only where x comes from p(x|y,z). Pictures come from the whole prompt, so
it is used for i(x;y1,y2) and for what is missing without a source, i(x;y2|y1); their difference is i(x;y1) by the
chain rule (`told`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from metrics.base import Evidence, Metric, MissingEvidence, Score, require_counts

SOURCE = "after Dewan et al., NeurIPS 2024 (arXiv 2406.05191), with minimum mutual information; Kong et al., ICLR 2024"


@dataclass(frozen=True)
class Parts:
    """What two sources tell, in nats: unique to the first, unique to the second, redundant, synergistic."""

    first: float
    second: float
    redundant: float
    synergistic: float


def decompose(first: float, second: float, both: float) -> Parts:
    """The parts of I(x;y1), I(x;y2) and I(x;y1,y2), nats. All are at least 0 where 0 <= I(x;yk) <= I(x;y1,y2)."""
    redundant = min(first, second)
    return Parts(first - redundant, second - redundant, redundant, both - max(first, second))  # I12 - I1 - I2 + R


def information(gaps: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
    """1/2 integral of `gaps`, (..., T), over the log-SNRs (T,), in whatever order: nats, (...).

    The trapezoid rule from the first level to the last; what lies beyond is left out.
    """
    return _down_to(gaps, logsnr)[..., -1]


def told(whole: torch.Tensor, missing: torch.Tensor, logsnr: torch.Tensor) -> float:
    """What a source y that is part of c tells of pictures from p(x|c): nats, 0 to `information(whole, logsnr)`.

    whole: ||eps(x_l|c) - eps(x_l)||^2, mean over the pictures, (T,); missing: the same of eps(x_l|c) - eps(x_l|y).
    1/2 integral (whole - missing) dl from the coarsest level down to l is the mean of log p(x_l|y) / p(x_l), what y
    tells of the noised picture. The largest of these counts: over pictures from all c it is the whole integral, since
    each level adds; a source that is wrong about finer detail than it is right about loses nothing by that, and one
    that is wrong from the start tells 0, not less.
    """
    return float(_down_to(whole - missing, logsnr).max())


def _down_to(gaps: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
    """1/2 integral from the least log-SNR to each, rising; the first is 0."""
    order = logsnr.argsort()
    parts = torch.cumulative_trapezoid(gaps[..., order].double(), logsnr[order].double(), dim=-1) / 2
    return torch.nn.functional.pad(parts, (1, 0))


@dataclass(frozen=True)
class Look:
    """Means over one forgotten concept's images, at the log-SNRs (T,): `whole` and each of `others`, (T,)."""

    logsnr: torch.Tensor
    whole: torch.Tensor
    others: dict[str, torch.Tensor]

    def told(self, name: str) -> float:
        """What the prompt called so in `metrics.base.PromptProbes` tells of the images, in nats."""
        return told(self.whole, self.others[name], self.logsnr)

    def parts(self) -> Parts:
        """Concept's word (first) and rest of the prompt (second)."""
        return decompose(self.told("word"), self.told("rest"), float(information(self.whole, self.logsnr)))


def look(evidence: Evidence, concept: str) -> Look:
    """What the model was seen to do with a forgotten concept's images. Raises MissingEvidence."""
    words = evidence.prompt_probes
    if words is None:
        raise MissingEvidence("the model was not probed with other prompts")
    mine = torch.tensor([asked == concept for asked in words.requested])
    looked = words.looked[mine]
    levels = looked.any(0)
    if levels.sum() < 2:
        raise MissingEvidence(f"the images of {concept} were looked at under fewer than two noise levels")

    def mean(gaps: torch.Tensor) -> torch.Tensor:
        seen = torch.where(looked, gaps[mine].double(), 0.0)  # what was not looked at may hold anything
        return (seen.sum(0) / looked.sum(0))[levels]

    others = {name: mean(gaps) for name, gaps in words.others.items()}
    return Look(words.logsnr[levels], mean(words.null), others)


def _mean(evidence: Evidence, beside: str, figure: Callable[[Look], float]) -> Score | None:
    """Mean of `figure` over the images of the forgotten concepts that have a prompt called `beside`."""
    words = evidence.prompt_probes
    if words is None:
        raise MissingEvidence("the model was not probed with other prompts")
    concepts = [concept for concept in evidence.forget if concept in words.has.get(beside, ())]
    if evidence.forget and not concepts:
        return None
    require_counts(words.requested, list(words.null), concepts, evidence.counts)
    n = [words.requested.count(concept) for concept in concepts]
    values = [figure(look(evidence, concept)) for concept in concepts]
    return Score(sum(v * k for v, k in zip(values, n, strict=True)) / sum(n), sum(n))


def compute_unique(evidence: Evidence) -> Score | None:
    """U1 of the concept's word y1 and the rest of its prompt y2, in nats, over the forgotten concepts' images.

    x are the images that the model itself draws for the concept's evaluation prompts, c = (y1, y2); y1 is asked as the
    bare name, y2 as the prompt with the broadest word for the name. 0 to infinity, less is better: 0 where the word
    tells nothing that "dog" does not. A ruined model reaches it too, and a word that now means something else keeps it
    high, as with `mi`. Limits are those of `mi`: images are sharpened by guidance, the schedule ends the integral.

    None where the world has no broader word for a forgotten concept, as for the next two. Raises MissingEvidence.
    """
    return _mean(evidence, "rest", lambda seen: seen.parts().first)


def compute_redundant(evidence: Evidence) -> Score | None:
    """R of the same, in nats: what the concept's word tells of its images and the rest of the prompt tells as well.

    0 to infinity, more is better: a method that takes the concept alone leaves it, one that takes the prompt's meaning
    as a whole does not. No more than the untouched model's is to be expected. Raises MissingEvidence.
    """
    return _mean(evidence, "rest", lambda seen: seen.parts().redundant)


def compute_synergy(evidence: Evidence) -> Score | None:
    """S of the same, in nats: what of the images only word and rest together tell.

    0 to infinity, less is better: with `compute_unique` it is what the word adds to the rest, I(x;y1|y2). Raises
    MissingEvidence.
    """
    return _mean(evidence, "rest", lambda seen: seen.parts().synergistic)


def compute_shared(evidence: Evidence) -> Score | None:
    """R of the concept's prompt and the same with its nearest neighbour's name, in nats.

    What the neighbour's word tells, rightly, of the forgotten concept's images: coarse features that both share, down
    to the detail in which they differ (`told`; it is never more than the concept's own tells, so it is the minimum).
    0 to infinity; more is better, since a method that takes what is unique leaves it. No more than the untouched
    model's is to be expected, but for one that answers with the neighbour. None where the task keeps no neighbour.
    Raises MissingEvidence.
    """
    return _mean(evidence, "near", lambda seen: seen.told("near"))


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
