"""What holds weights, or what they say of retained prompts, where a request found them: for any method that trains.

Justin Lee et al., Continual Unlearning for Text-to-Image Diffusion Models: A Regularization Perspective, ICLR 2026,
arXiv 2511.07970, put these on top of other authors' methods; their code is github.com/justinhylee135/CUIG.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch

NAMES = ("none", "l1", "l2", "projection")
KEYS_AND_VALUES = (".attn2.to_k.", ".attn2.to_v.")  # of cross-attention: what is fed token states


class Regulariser(Protocol):
    """What the training loop tells it of each optimiser step."""

    def after_backward(self) -> None:
        """With the accumulated gradients in place, before the method masks and the loop clips them."""

    def before_step(self) -> None:
        """Right before the optimiser moves the weights."""

    def after_step(self) -> None:
        """Right after it, before anything else sees them."""


def require(name: str) -> None:
    """Raises ValueError for a name that is not one of NAMES."""
    if name not in NAMES:
        raise ValueError(f"unknown regulariser {name!r}; known: {', '.join(NAMES)}")


def build(
    name: str,
    weight: float,
    energy: float,
    trained: Mapping[str, torch.nn.Parameter],
    start: Mapping[str, torch.Tensor],
    directions: Callable[[], torch.Tensor],
) -> Regulariser | None:
    """The regulariser called `name`; None for "none".

    Nothing of it needs a checkpoint: built anew from the same arguments it goes on as before.

    Args:
        weight: of the penalty, at least 0; l1 and l2 read it.
        energy: as `basis` takes it; projection reads it.
        trained: the parameters that train; gradients and values are changed in place.
        start: their values where the request found them, under the same names; l1 and l2 read them and keep no copy.
        directions: () -> token states of retained prompts, (N, text width); called for projection alone, once.

    Raises ValueError for an unknown name, a negative weight, a parameter without a start of its shape, and for
    projection if no cross-attention key or value matrix trains, or if one is not as wide as the token states.
    """
    require(name)
    if name == "none":
        return None
    if name == "projection":
        return Projection(trained, basis(directions(), energy))
    return Penalty(name, weight, trained, start)


class Penalty:
    """L1-SP and L2-SP: weight * R is added to the loss, R = sum |theta - start| for l1, sum (theta - start)^2 for l2.

    The sum runs over every value that trains, and only its gradient is formed: weight * sign(theta - start), 0 where
    a value has not moved, or 2 * weight * (theta - start). A parameter that got no gradient from the loss gets none
    here. The authors' code divides R by the number of values that train; a weight of theirs is, divided by
    that number, a weight here. L2-SP is by Li et al. 2018, arXiv 1802.01483.
    """

    def __init__(
        self, name: str, weight: float, trained: Mapping[str, torch.nn.Parameter], start: Mapping[str, torch.Tensor]
    ) -> None:
        if not weight >= 0:
            raise ValueError(f"the weight of regulariser {name!r} is {weight}; it must be at least 0")
        if strange := [n for n, p in trained.items() if n not in start or start[n].shape != p.shape]:
            raise ValueError(f"regulariser {name!r} has no start of the right shape for {strange[0]!r}")
        self.squared, self.weight = name == "l2", weight
        self.pairs = [(parameter, start[n]) for n, parameter in trained.items()]

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add the penalty's gradient to each parameter's."""
        for parameter, origin in self.pairs:
            if parameter.grad is not None:
                moved = parameter - origin.to(parameter)
                parameter.grad.add_(moved if self.squared else moved.sign_(), alpha=self.weight * (1 + self.squared))

    def before_step(self) -> None:
        """Nothing."""

    def after_step(self) -> None:
        """Nothing."""


class Projection:
    """Each step of a cross-attention key or value matrix W, (out, text width), is freed of retained directions.

    What the optimiser adds to W becomes step @ (I - U U^T), so that W @ u stays what it was for each retained
    direction u, a column of U, whatever the prompt: keys and values of retained prompts keep all that lies in U. Every
    other parameter moves freely, queries and outputs of cross-attention too, and so what is made of these keys
    and values may change; with `parameters=attn2-kv` nothing else trains.

    The authors project the gradient in the same place, with P = I - C (C^T C)^-1 C^T, ridge added, for C the mean
    states of the concept's tokens in some auxiliary prompts. Here it is the step: Adam divides a gradient value by
    value, which leads out of the subspace again, and weight decay never was in it. Directions that hold the least of
    the states are left out, so that what is forgotten has somewhere to go. A moving average and a sum of such steps
    stay in the subspace as well; values set by other means, as in a method's `after_step`, do not.

    Args:
        retained: U, orthonormal, (text width, r).

    It holds the float64 U and, within a step, one copy of the matrices.
    """

    def __init__(self, trained: Mapping[str, torch.nn.Parameter], retained: torch.Tensor) -> None:
        chosen = {n: p for n, p in trained.items() if any(k in n for k in KEYS_AND_VALUES) and n.endswith(".weight")}
        if not chosen:
            raise ValueError(
                "regulariser 'projection' acts on cross-attention keys and values (.attn2.to_k, .attn2.to_v), and the "
                "method trains none of them"
            )
        width = len(retained)
        if strange := [(n, tuple(p.shape)) for n, p in chosen.items() if p.ndim != 2 or p.shape[1] != width]:
            name, shape = strange[0]
            raise ValueError(f"{name!r} is of shape {shape}, and token states are {width} wide")
        self.matrices = list(chosen.values())
        self.retained = retained.to(self.matrices[0].device)
        self.before: list[torch.Tensor] = []

    def after_backward(self) -> None:
        """Nothing."""

    def before_step(self) -> None:
        """Remember the matrices."""
        self.before = [matrix.detach().clone() for matrix in self.matrices]

    @torch.no_grad()
    def after_step(self) -> None:
        """Take out of what was added since `before_step` all that lies along retained directions."""
        for matrix, before in zip(self.matrices, self.before, strict=True):
            step = matrix.double() - before.double()
            matrix.copy_(matrix.double() - step @ self.retained @ self.retained.T)
        self.before = []


def basis(states: torch.Tensor, energy: float = 0.99) -> torch.Tensor:
    """Orthonormal directions, as few as hold the share `energy` of the squared norm of `states`.

    They are the first right singular vectors, states not centred: what must stay is W @ state, not differences of it.

    Args:
        states: (N, width), finite and not all zero.
        energy: in 0..1, without 0; 1 takes all that the states span, to float64's precision.

    Returns float64 (width, r) on the device of `states`, 1 <= r <= min(N, width). Raises ValueError for anything else.
    """
    if states.ndim != 2 or not states.isfinite().all() or not states.any():
        raise ValueError(f"retained token states must be finite, (N, width) and not all zero: {tuple(states.shape)}")
    if not 0 < energy <= 1:
        raise ValueError(f"energy is {energy}; it must lie in 0..1, without 0")
    _, sizes, directions = torch.linalg.svd(states.double(), full_matrices=False)
    shares = sizes.square().cumsum(0) / sizes.square().sum()
    spanned = int((sizes > sizes[0] * max(states.shape) * torch.finfo(torch.float64).eps).sum())
    return directions[: min(spanned, 1 + int((shares < energy).sum()))].T.contiguous()
