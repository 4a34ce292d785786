"""What holds weights, or what they say of retained prompts, where a request found them: for any method that trains.

Justin Lee et al., Continual Unlearning for Text-to-Image Diffusion Models: A Regularization Perspective, ICLR 2026,
arXiv 2511.07970, put these on top of other authors' methods. Their code, github.com/justinhylee135/CUIG, was read for
formulas; of the paper, abstract and summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch

NAMES = ("none", "l1", "l2", "projection")
KEYS_AND_VALUES = (".attn2.to_k.", ".attn2.to_v.")  # of cross-attention: what takes in token states
DEFAULT_WEIGHTS = {"l1": 50.0, "l2": 25_000.0}  # of the authors' code, on a mean over values
CHUNK = 16384  # states at a time in float64


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


def default_weight(name: str, trained: Mapping[str, torch.nn.Parameter]) -> float:
    """The penalty's weight where nobody says: what the authors' code has as default, 50 for l1 and 25,000 for l2.

    Theirs weighs a mean over all values that train, and this one a sum, so it is divided by their number.
    """
    return DEFAULT_WEIGHTS.get(name, 0.0) / max(1, sum(p.numel() for p in trained.values()))


def build(
    name: str,
    weight: float,
    energy: float,
    trained: Mapping[str, torch.nn.Parameter],
    start: Mapping[str, torch.Tensor],
    directions: Callable[[], torch.Tensor],
) -> Regulariser | None:
    """The regulariser called `name`; None for "none".

    Nothing of it belongs in a checkpoint: built anew from the same arguments it goes on as before.

    Args:
        weight: of the penalty, at least 0; l1 and l2 read it.
        energy: share of the retained states that is held, as `basis` takes it; projection reads it.
        trained: the parameters that train; gradients and values are changed in place.
        start: their values where the request found them, under the same names; l1 and l2 read them, and copy
            none that is of the parameter's dtype and device.
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
    """L1-SP and L2-SP: weight * R joins the loss, with R = sum |theta - start| for l1, sum (theta - start)^2 for l2.

    The sum runs over every value that trains: ||theta - theta_{n-1}||_p^p, as summaries of Lee et al. have it, and for
    l2 Li et al. 2018, arXiv 1802.01483. Only its gradient is formed, weight * sign(theta - start), 0 where a value has
    not moved, or 2 * weight * (theta - start); at the first step both are 0. The authors' code divides R by the
    number of values that train: a weight of theirs, divided by that number, is a weight here.
    """

    def __init__(
        self, name: str, weight: float, trained: Mapping[str, torch.nn.Parameter], start: Mapping[str, torch.Tensor]
    ) -> None:
        if not weight >= 0:  # nor may it be nan
            raise ValueError(f"the weight of regulariser {name!r} is {weight}; it must be at least 0")
        if strange := [n for n, p in trained.items() if n not in start or start[n].shape != p.shape]:
            raise ValueError(f"regulariser {name!r} has no start of the right shape for {strange[0]!r}")
        self.squared, self.weight = name == "l2", weight
        self.pairs = [(parameter, start[n].to(parameter)) for n, parameter in trained.items()]

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add the penalty's gradient to each parameter's."""
        for parameter, origin in self.pairs:
            moved = parameter - origin
            pull = moved.mul_(2 * self.weight) if self.squared else moved.sign_().mul_(self.weight)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def before_step(self) -> None:
        """Nothing."""

    def after_step(self) -> None:
        """Nothing."""


class Projection:
    """Each step of a cross-attention key or value matrix W, (out, text width), is freed of retained directions.

    What the optimiser adds to W becomes step @ (I - U U^T), so that W @ u stays what it was for each retained
    direction u, a column of U: keys and values of any prompt keep what comes of the part of its states within U. All
    other parameters move freely, queries and outputs of cross-attention too, and so may what is made of these keys
    and values; with `parameters=attn2-kv` nothing else trains.

    Lee et al. project the gradient of the same matrices, with I - C (C^T C)^-1 C^T, a ridge added, and for C the mean
    states of the concept's own tokens in auxiliary prompts. Here it is the step: Adam divides a gradient value by value
    and so leads out of the subspace again, and weight decay never was in it. Moving averages of such weights stay
    within. What a method writes into weights itself does not, and a step within a mask leaves the mask.

    Args:
        retained: U, orthonormal, (text width, r).

    It holds U in float64 and, during a step, one copy of the matrices.
    """

    def __init__(self, trained: Mapping[str, torch.nn.Parameter], retained: torch.Tensor) -> None:
        chosen = {n: p for n, p in trained.items() if any(k in n for k in KEYS_AND_VALUES) and n.endswith(".weight")}
        if not chosen:
            raise ValueError(
                "regulariser 'projection' holds keys and values of cross-attention (.attn2.to_k., .attn2.to_v.), and "
                "the method trains none of them"
            )
        width = len(retained)
        if strange := [(n, tuple(p.shape)) for n, p in chosen.items() if p.ndim != 2 or p.shape[1] != width]:
            name, shape = strange[0]
            raise ValueError(f"token states are {width} wide; {name!r}, of shape {shape}, takes others")
        self.matrices = list(chosen.values())
        self.retained = retained.to(self.matrices[0].device, torch.float64)
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
            step = matrix.double() - before.double()  # float64: TF32 would round products of fp32 to 10 bits
            matrix.copy_(matrix.double() - step @ self.retained @ self.retained.T)
        self.before = []


def basis(states: torch.Tensor, energy: float = 0.99) -> torch.Tensor:
    """Orthonormal directions, as few as hold the share `energy` of the squared norm of `states`.

    The first right singular vectors, of states as they are: what must stay is W @ state, so no mean is taken off. A
    state that occurs more often weighs more.

    Args:
        states: (N, width), finite and not all zero.
        energy: in 0..1, without 0; 1 takes all that the states span, but for what rounding hides.

    Returns float64 (width, r) on the device of `states`, 1 <= r <= min(N, width). Raises ValueError for anything else.
    """
    if states.ndim != 2 or not states.isfinite().all() or not states.any():
        raise ValueError(f"token states must be finite, (N, width), and not all zero; these are {tuple(states.shape)}")
    if not 0 < energy <= 1:
        raise ValueError(f"energy is {energy}; it must lie in 0..1, without 0")
    gram = torch.zeros(states.shape[1], states.shape[1], dtype=torch.float64, device=states.device)
    for part in states.split(CHUNK):
        gram += part.double().T @ part.double()
    sizes, directions = torch.linalg.eigh(gram)  # ascending; of squared singular values
    sizes, directions = sizes.flip(0).clamp(min=0), directions.flip(1)
    held = sizes.cumsum(0) / sizes.sum()
    spanned = int((sizes > sizes[0] * max(states.shape) * torch.finfo(torch.float64).eps).sum())
    return directions[:, : min(spanned, 1 + int((held < energy).sum()))].contiguous()
