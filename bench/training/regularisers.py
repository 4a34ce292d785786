"""Regularisers for any method that trains: they keep weights, or outputs for retained prompts, near the start.

The start is the weights before the request. Justin Lee et al. (Continual Unlearning for Text-to-Image Diffusion Models:
A Regularization Perspective, ICLR 2026, arXiv 2511.07970) add these to other authors' methods. The formulas come from
their code, github.com/justinhylee135/CUIG, and from the paper's abstract and summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch

NAMES = ("none", "l1", "l2", "projection")
KEYS_AND_VALUES = (".attn2.to_k.", ".attn2.to_v.")  # the cross-attention matrices that multiply token states
DEFAULT_WEIGHTS = {"l1": 50.0, "l2": 25_000.0}  # in the authors' code, for a mean over all values
CHUNK = 16384  # number of token states that are converted to float64 at once


class Regulariser(Protocol):
    """What the training loop calls at each optimiser step."""

    def after_backward(self) -> None:
        """Called when the accumulated gradients are in place, before the method changes and the loop clips them."""

    def before_step(self) -> None:
        """Called directly before the optimiser step."""

    def after_step(self) -> None:
        """Called directly after the optimiser step, before anything else reads the weights."""


def require(name: str) -> None:
    """Raises ValueError for a name that is not one of NAMES."""
    if name not in NAMES:
        raise ValueError(f"unknown regulariser {name!r}; known: {', '.join(NAMES)}")


def default_weight(name: str, trained: Mapping[str, torch.nn.Parameter]) -> float:
    """The default weight of a penalty: that of the authors' code, 50 for l1 and 25,000 for l2, per trained value.

    Their weight multiplies a mean over all values that train. The weight here multiplies a sum, so theirs is divided
    by the number of values.

    Example:
        >>> default_weight("l1", {"w": torch.nn.Parameter(torch.zeros(10, 10))})
        0.5
    """
    return DEFAULT_WEIGHTS.get(name, 0.0) / max(1, sum(p.numel() for p in trained.values()))


def build(
    name: str,
    weight: float,
    energy: float,
    trained: Mapping[str, torch.nn.Parameter],
    start: Mapping[str, torch.Tensor],
    token_states: Callable[[], torch.Tensor],
) -> Regulariser | None:
    """The regulariser called `name`, or None for "none".

    It has no state that a checkpoint needs: one that is built again from the same arguments continues as before.

    Args:
        weight: weight of the l1 or l2 penalty, at least 0.
        energy: for "projection", the share of the token states' squared norm to protect, as in `basis`.
        trained: parameter name -> parameter that trains. Gradients and values are changed in place.
        start: parameter name -> value before the request, for l1 and l2. A tensor that already has the parameter's
            dtype and device is not copied.
        token_states: returns token states of retained prompts, (N, text width). Called once, for "projection" only.

    Raises ValueError for an unknown name, for a negative weight, and for a parameter without a start of its shape. For
    "projection" it also raises ValueError if no cross-attention key or value matrix trains, or if the width of one
    differs from that of the token states.
    """
    require(name)
    if name == "none":
        return None
    if name == "projection":
        return Projection(trained, basis(token_states(), energy))
    return Penalty(name, weight, trained, start)


class Penalty:
    """L1-SP and L2-SP: add weight * R to the loss, with R = sum |theta - start| for l1, sum (theta - start)^2 for l2.

    The sum is over every value that trains: ||theta - theta_{n-1}||_p^p in summaries of Lee et al., and for l2 in Li et
    al., 2018, arXiv 1802.01483. Only its gradient is computed: weight * sign(theta - start) for l1, which is 0 where a
    value has not moved, and 2 * weight * (theta - start) for l2. At the first step both are 0. The authors' code
    divides R by the number of values that train, so their weight divided by that number is the weight here.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> Penalty("l2", 0.5, {"w": w}, {"w": torch.zeros(2)}).after_backward()
        >>> w.grad
        tensor([1., 2.])
    """

    def __init__(
        self, name: str, weight: float, trained: Mapping[str, torch.nn.Parameter], start: Mapping[str, torch.Tensor]
    ) -> None:
        if not weight >= 0:  # NaN fails this test too
            raise ValueError(f"the weight of regulariser {name!r} is {weight}; it must be at least 0")
        if misfits := [n for n, p in trained.items() if n not in start or start[n].shape != p.shape]:
            raise ValueError(f"regulariser {name!r} has no start of the right shape for {misfits[0]!r}")
        self.squared, self.weight = name == "l2", weight
        self.pairs = [(parameter, start[n].to(parameter)) for n, parameter in trained.items()]

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add the penalty's gradient to each parameter's."""
        for parameter, start in self.pairs:
            change = parameter - start
            gradient = change.mul_(2 * self.weight) if self.squared else change.sign_().mul_(self.weight)
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def before_step(self) -> None:
        """Does nothing."""

    def after_step(self) -> None:
        """Does nothing."""


class Projection:
    """Removes retained directions from each step of a cross-attention key or value matrix W, (out, text width).

    Let the columns of U be the retained directions. The step that the optimiser adds to W becomes step @ (I - U U^T),
    so that W @ u does not change for any retained direction u. The keys and values of any prompt keep the part that
    comes from its token states within U. All other parameters train freely, also the query and output matrices of
    cross-attention. With `parameters=attn2-kv` no other parameter trains.

    Lee et al. project the gradient of the same matrices with I - C (C^T C)^-1 C^T, plus a ridge, where C holds the mean
    states of the concept's own tokens in auxiliary prompts. Here the step is projected, because Adam divides each
    gradient value by its own scale and so leaves the subspace again, and because weight decay is not part of the
    gradient. Moving averages of projected weights are projected too. Values that a method writes itself are not, and
    the projection of a masked step is no longer within the mask.

    Args:
        trained: parameter name -> parameter that trains. Only key and value matrices of cross-attention are used.
        retained: U, orthonormal, (text width, r).

    It keeps U in float64 and, during a step, one copy of the matrices. Raises ValueError as in `build`.
    """

    def __init__(self, trained: Mapping[str, torch.nn.Parameter], retained: torch.Tensor) -> None:
        chosen = {n: p for n, p in trained.items() if any(k in n for k in KEYS_AND_VALUES) and n.endswith(".weight")}
        if not chosen:
            raise ValueError(
                "regulariser 'projection' holds keys and values of cross-attention (.attn2.to_k., .attn2.to_v.), and "
                "the method trains none of them"
            )
        width = len(retained)
        if misfits := [(n, tuple(p.shape)) for n, p in chosen.items() if p.ndim != 2 or p.shape[1] != width]:
            name, shape = misfits[0]
            raise ValueError(f"token states are {width} wide; {name!r}, of shape {shape}, takes others")
        self.matrices = list(chosen.values())
        self.retained = retained.to(self.matrices[0].device, torch.float64)
        self.before: list[torch.Tensor] = []

    def after_backward(self) -> None:
        """Does nothing."""

    def before_step(self) -> None:
        """Copy the matrices."""
        self.before = [matrix.detach().clone() for matrix in self.matrices]

    @torch.no_grad()
    def after_step(self) -> None:
        """Remove the retained directions from the change since `before_step`."""
        for matrix, before in zip(self.matrices, self.before, strict=True):
            step = matrix.double() - before.double()  # float64, because TF32 rounds products of float32 to 10 bits
            matrix.copy_(matrix.double() - step @ self.retained @ self.retained.T)
        self.before = []


def basis(states: torch.Tensor, energy: float = 0.99) -> torch.Tensor:
    """The fewest orthonormal directions that hold the share `energy` of the squared norm of `states`.

    They are the first right singular vectors of the uncentred states: W @ state must not change, so the mean is part
    of it. A state that occurs more often has more weight.

    Args:
        states: token states, (N, width), finite and not all zero.
        energy: in (0, 1]. 1 keeps the whole span of the states, up to rounding.

    Returns float64 (width, r) on the device of `states`, with 1 <= r <= min(N, width). Raises ValueError if an argument
    is out of range.

    Example:
        >>> basis(torch.tensor([[2.0, 0.0], [4.0, 0.0]])).abs()
        tensor([[1.],
                [0.]], dtype=torch.float64)
    """
    if states.ndim != 2 or not states.isfinite().all() or not states.any():
        raise ValueError(f"token states must be finite, (N, width), and not all zero; these are {tuple(states.shape)}")
    if not 0 < energy <= 1:
        raise ValueError(f"energy is {energy}; it must lie in 0..1, without 0")
    gram = torch.zeros(states.shape[1], states.shape[1], dtype=torch.float64, device=states.device)
    for part in states.split(CHUNK):
        gram += part.double().T @ part.double()
    sizes, directions = torch.linalg.eigh(gram)  # squared singular values, ascending
    sizes, directions = sizes.flip(0).clamp(min=0), directions.flip(1)
    share = sizes.cumsum(0) / sizes.sum()
    spanned = int((sizes > sizes[0] * max(states.shape) * torch.finfo(torch.float64).eps).sum())
    return directions[:, : min(spanned, 1 + int((share < energy).sum()))].contiguous()
