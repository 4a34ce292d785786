"""A linear probe: multinomial logistic regression on frozen features, its weight decay chosen on pictures held out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # from strong to weak: each starts from the one before
HELD_OUT = 5  # one in so many of each class
STEPS = 200  # of L-BFGS at most


@dataclass(frozen=True)
class Probe:
    """A fitted head and how it was chosen.

    Args:
        weight, bias: (classes, D) and (classes,), for features as they come.
        decay: the one of DECAYS chosen; it multiplies half the squared norm of the weights of scaled features.
        held_out: its accuracy on the pictures held out, from 0 to 1, when fitted on the others.
        tried: accuracy of every decay there.
    """

    weight: Tensor
    bias: Tensor
    decay: float
    held_out: float
    tried: dict[float, float]

    def into(self, head: nn.Linear) -> None:
        """Copy weight and bias."""
        with torch.no_grad():
            head.weight.copy_(self.weight)
            head.bias.copy_(self.bias)


def fit(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> Probe:
    """Fit on all of features, float (N, D), and labels, int64 (N,), with the decay that does best on a fifth of them.

    The fifth is drawn class by class with `seed`; of decays with the same accuracy the one of the lower cross-entropy
    is taken. Features are centred and divided by one number, not each by its own spread: one that hardly varies on
    photographs would else weigh much on generated pictures, where it may. Raises ValueError where a class has fewer
    than two pictures.
    """
    few = (torch.bincount(labels, minlength=classes) < 2).nonzero().flatten().tolist()
    if few:
        raise ValueError(
            f"a probe needs two pictures or more of each class; class {few[0]} and {len(few) - 1} others lack"
        )
    mean = features.mean(0)
    spread = (features - mean).square().mean().sqrt().clamp(min=1e-12)
    scaled = (features - mean) / spread

    out = _held_out(labels, seed)
    start, scores = _zero(scaled, classes), {}
    for decay in DECAYS:
        start = _solve(scaled[~out], labels[~out], decay, start)
        logits = scaled[out] @ start[0].T + start[1]
        right = float((logits.argmax(1) == labels[out]).double().mean())
        scores[decay] = (right, -float(F.cross_entropy(logits, labels[out])))
    best = max(DECAYS, key=lambda decay: scores[decay])

    weight, bias = _solve(scaled, labels, best, _zero(scaled, classes))
    weight = weight / spread
    return Probe(weight, bias - weight @ mean, best, scores[best][0], {d: right for d, (right, _) in scores.items()})


def _held_out(labels: Tensor, seed: int) -> Tensor:
    """bool (N,): one in HELD_OUT of each class, one at least."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        mine = (labels == label).nonzero().flatten().cpu()
        out[mine[torch.randperm(len(mine), generator=generator)[: max(1, len(mine) // HELD_OUT)]]] = True
    return out.to(labels.device)


def _zero(features: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return features.new_zeros(classes, features.shape[1]), features.new_zeros(classes)


def _solve(features: Tensor, labels: Tensor, decay: float, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The minimum of mean cross-entropy plus decay / 2 times the squared norm of the weights, from `start`."""
    weight, bias = (tensor.clone().requires_grad_() for tensor in start)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, history_size=20, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weight.detach(), bias.detach()
