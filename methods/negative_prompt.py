"""Negative prompt: the concept takes the place of the null prompt in classifier-free guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from methods.base import Embed, Guidance, Method, MethodConfig, Predict, PredictStep, predict_each
from methods.concept_prompt import joined

if TYPE_CHECKING:
    from bench.backbones.pipeline import Backbone


@dataclass(frozen=True)
class NegativePromptConfig(MethodConfig):
    """Settings. Those of the training loop have no effect.

    Args:
        strength: the weight of the concept's prediction in the null branch, in [0, 1]. 1 is the usual negative prompt,
            and 0 is the untouched model.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be at least 0 and at most 1, not {self.strength}")


class NegativePrompt(Method):
    """eps = n + s (eps(z_t, p) - n), with n = (1 - a) eps(z_t, null) + a eps(z_t, S).

    p is the prompt, s the guidance scale, S the concept prompt, and a the strength. With a = 1 this is the negative
    prompt of the Stable Diffusion pipelines: every step leads away from S instead of the null prompt. Values of a
    between 0 and 1 are Lethe's own addition. S has the words for all concepts to forget, separated by commas. At s = 1
    the null branch has no weight, so the method has no effect.

    No weight changes. A negative prompt is a way to use a model, and anyone who has the model can leave it out.
    """

    about = "the concept as negative prompt, while sampling; no weight changes"
    source = "the negative prompt of Stable Diffusion pipelines, on Ho & Salimans, 2022, arXiv 2207.12598"
    fidelity = "published"
    multi = "closed_form"
    tags = ("inference",)
    Config = NegativePromptConfig
    config: NegativePromptConfig

    def attach(
        self, backbone: Backbone, concepts: Sequence[str], tensors: Mapping[str, torch.Tensor]
    ) -> AbstractContextManager[object]:
        """The guidance of the class's formula; nothing at strength 0."""
        if self.config.strength == 0:
            return nullcontext()
        return backbone.guided_by(NegativeGuidance(joined(backbone, concepts), self.config.strength))

    def passes(self, scale: float) -> int:
        """One for the prompt, one for the concept, and one for the null prompt at a strength between 0 and 1."""
        return len(parts(scale, self.config.strength))

    def export(self, concepts: Sequence[str]) -> tuple[dict[str, Any], str]:
        """The argument `negative_prompt` of every Stable Diffusion pipeline, which has the strength 1."""
        call = {"pipeline": "StableDiffusionPipeline", "call": {"negative_prompt": ", ".join(concepts)}}
        other = f"the strength {self.config.strength:g}: a negative prompt of diffusers always has the strength 1"
        return call, "" if self.config.strength == 1 else other


@dataclass(frozen=True)
class NegativeGuidance(Guidance):
    """The guidance of NegativePrompt.

    Args:
        concept: the concept prompt S.
        strength: the strength a.
    """

    concept: str
    strength: float

    def start(
        self, prompts: Sequence[str], predict: Predict, embed: Embed, scale: float, timesteps: torch.Tensor
    ) -> PredictStep:
        """As in Guidance."""
        texts = {"null": [""] * len(prompts), "concept": [self.concept] * len(prompts), "prompt": [*prompts]}
        weights = parts(scale, self.strength)
        embeds = [embed(texts[name]) for name in weights]

        def predict_step(latents: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            eps = dict(zip(weights, predict_each(predict, latents, t, embeds), strict=True))
            # n = (1 - a) eps(z_t, null) + a eps(z_t, S), of the parts that have a weight
            summands = [weight * eps[name] for name, weight in weights.items() if name != "prompt"]
            if not summands:
                return eps["prompt"]
            branch = sum(summands[1:], summands[0])
            # n + s (eps(z_t, p) - n)
            return branch + scale * (eps["prompt"] - branch) if "prompt" in weights else branch

        return predict_step


def parts(scale: float, strength: float) -> dict[str, float]:
    """Each prediction that the formula needs -> its weight in its branch.

    >>> parts(7.5, 1.0)
    {'concept': 1.0, 'prompt': 1.0}
    >>> parts(7.5, 0.25)
    {'null': 0.75, 'concept': 0.25, 'prompt': 1.0}
    >>> parts(1.0, 1.0)
    {'prompt': 1.0}
    """
    branch = {} if scale == 1 else {"null": 1 - strength, "concept": strength}
    every = {**branch, **({"prompt": 1.0} if scale else {})}
    return {name: weight for name, weight in every.items() if weight}
