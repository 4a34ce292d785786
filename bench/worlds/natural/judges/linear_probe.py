"""A linear probe: multinomial logistic regression on frozen features.

Held-out training images choose its weight decay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # from strong to weak; each fit starts from the fit before
HELD_OUT = 5  # one image in this many is held out from each class
STEPS = 200  # maximum iterations of L-BFGS


@dataclass(frozen=True)
class Probe:
    """A fitted head and the choice of its weight decay.

    Args:
        weight, bias: (classes, D) and (classes,). They apply to features that are not scaled.
        decay: the chosen entry of DECAYS. It multiplies half the squared norm of the weights for scaled features.
        held_out: accuracy on the held-out images, from 0 to 1, of a fit with `decay` on the other training images.
        tried: decay -> accuracy on the held-out images, from 0 to 1, for every entry of DECAYS.
    """

    weight: Tensor
    bias: Tensor
    decay: float
    held_out: float
    tried: dict[float, float]

    def into(self, head: nn.Linear) -> None:
        """Copy the probe's weight and bias into `head`, in place."""
        with torch.no_grad():
            head.weight.copy_(self.weight)
            head.bias.copy_(self.bias)


def fit(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> Probe:
    """Fit a probe to all features, float (N, D), and labels, int64 (N,).

    The weight decay is the one with the highest accuracy on a held-out fifth of the images. The fifth is drawn from
    each class with `seed`. If decays have the same accuracy, the one with the lowest cross-entropy is chosen. All
    features are centred and divided by the same number, their overall standard deviation. Dividing each feature by its
    own standard deviation would give a high weight to a feature that hardly varies on photographs, and this feature may
    vary on generated images. Raises ValueError if a class has fewer than two images.
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
    """bool (N,), True for held-out images: one image in HELD_OUT of each class, but at least one of each class."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        mine = (labels == label).nonzero().flatten().cpu()
        out[mine[torch.randperm(len(mine), generator=generator)[: max(1, len(mine) // HELD_OUT)]]] = True
    return out.to(labels.device)


def _zero(features: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return features.new_zeros(classes, features.shape[1]), features.new_zeros(classes)


def _solve(features: Tensor, labels: Tensor, decay: float, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Minimise the mean cross-entropy plus decay / 2 times the squared norm of the weights, from `start`.

    Returns the weight, (classes, D), and the bias, (classes,).
    """
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
