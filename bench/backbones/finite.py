"""Refuses NaN and infinite values, so that no broken picture is stored or measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class NonFiniteImage(ArithmeticError):
    """A network computed NaN or infinite values for an image or a prompt."""


def require(values: torch.Tensor, stage: str, names: Sequence[str]) -> None:
    """Raise NonFiniteImage unless all `values` are finite.

    Args:
        values: what was computed for N images or prompts, (N, ...).
        stage: what was computed, for the message.
        names: N texts that identify the images, such as their prompts.

    >>> require(torch.tensor([[0.5], [float("nan")]]), "the pixels", ["a photo of a cat", "a photo of a dog"])
    Traceback (most recent call last):
    bench.backbones.finite.NonFiniteImage: the pixels are not finite for 1 of 2 in a batch, first for 'a photo of a dog'
    """
    if torch.isfinite(values).all():
        return
    finite = torch.isfinite(values.reshape(len(values), -1)).all(1).tolist()
    first = names[finite.index(False)]
    raise NonFiniteImage(
        f"{stage} are not finite for {finite.count(False)} of {len(finite)} in a batch, first for {first!r}"
    )
