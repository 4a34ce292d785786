"""Classifier-free guidance (Ho & Salimans, 2022). The meaning of a guidance scale is defined here and nowhere else.

The guided prediction is eps_u + s (eps_c - eps_u), where eps_c is the network's prediction for the prompt, eps_u its
prediction for the null prompt, and s the scale. Two scales need only one prediction: s = 0 gives eps_u, and s = 1
gives eps_c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
PredictGuided = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # z_t, timestep -> noise
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # z_t, timestep(s), embeddings -> noise
PredictStep = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # z_t, timestep, index of the step -> noise
Embed = Callable[[Sequence[str]], torch.Tensor]  # N prompts -> their embeddings, (N, tokens, width)


def require_scale(name: str, scale: float) -> None:
    """Raises ValueError unless `scale`, the value of the setting `name`, is a finite number of at least 0.

    >>> require_scale("path_guidance", 3.0)
    >>> require_scale("path_guidance", -1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: path_guidance must be a finite number of at least 0, not -1.0: ...
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(
            f"{name} must be a finite number of at least 0, not {scale}: 0 samples from the null prompt, "
            "1 from the prompt without guidance, and more than 1 amplifies the prompt"
        )


def conditions(scale: float, null: T, prompt: T) -> list[T]:
    """The conditions that the guided prediction needs, one or both, in the order that `guided` expects.

    Raises ValueError for a negative or non-finite scale.

    >>> conditions(7.5, "null", "prompt"), conditions(1, "null", "prompt"), conditions(0, "null", "prompt")
    (['null', 'prompt'], ['prompt'], ['null'])
    """
    require_scale("guidance_scale", scale)
    if scale == 0:
        return [null]
    return [prompt] if scale == 1 else [null, prompt]


def passes(scale: float) -> int:
    """The number of forward passes for one image in each sampling step: 1 or 2. Raises ValueError like `conditions`."""
    return len(conditions(scale, None, None))


def guided(predict: Predict, embeds: torch.Tensor, scale: float) -> PredictGuided:
    """A function (z_t, t) -> guided prediction; it calls `predict` once, with both conditions in one batch.

    Args:
        predict: (z_t, t, embeddings) -> predicted noise, the shape of z_t.
        embeds: (P * B, tokens, width), the embeddings of the conditions that `conditions` returns, one condition
            after the other; P is `passes(scale)`.
        scale: the guidance scale s.

    The function takes z_t as float (B, C, h, w) and t as an int64 scalar, and returns the prediction in the same shape.
    Raises ValueError for a negative or non-finite scale.
    """
    both = passes(scale) == 2

    def predict_guided(latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        noise_pred = predict(torch.cat([latents] * 2) if both else latents, t, embeds)
        if not both:
            return noise_pred
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        return noise_pred_uncond + scale * (noise_pred_text - noise_pred_uncond)

    return predict_guided


def predict_each(
    predict: Predict, latents: torch.Tensor, t: torch.Tensor, embeds: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """The predictions under several conditions, from one forward pass with all of them in one batch.

    Args:
        predict, latents, t: as in `Guidance.start`.
        embeds: the embeddings of each condition, each float32 (B, tokens, width).

    Returns the prediction under each condition, each in the shape of `latents`.
    """
    return predict(torch.cat([latents] * len(embeds)), t, torch.cat([*embeds])).chunk(len(embeds))


class Guidance:
    """How a sampler combines the network's predictions. This class is classifier-free guidance, the usual way.

    A method that acts while sampling may put another guidance in its place: a subclass that overrides `start`.
    """

    def start(
        self, prompts: Sequence[str], predict: Predict, embed: Embed, scale: float, timesteps: torch.Tensor
    ) -> PredictStep:
        """Begin the sampling of one batch. What a guidance keeps from one step to the next belongs to the result.

        Args:
            prompts: the prompts of the B images of the batch.
            predict: one forward pass: (z_t, t, embeddings) -> predicted noise, the shape of z_t. Several conditions go
                into one pass as one larger batch.
            embed: prompts -> their embeddings, float32 (len(prompts), tokens, width).
            scale: the guidance scale s.
            timesteps: the timesteps of all steps of the sampler, int64 (S,), the noisiest first.

        Returns a function (z_t, t, i) -> the prediction that the sampler follows, float32 in the shape of z_t. z_t is
        float32 (B, C, h, w), t is an int64 scalar, and i counts the steps from 0.
        """
        asked = conditions(scale, [""] * len(prompts), [*prompts])
        predict_guided = guided(predict, embed([prompt for each in asked for prompt in each]), scale)
        return lambda latents, t, step: predict_guided(latents, t)
