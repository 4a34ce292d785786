"""SLD: Safe Latent Diffusion steers every sampling step away from the concept, where the prompt leads towards it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from methods.base import (
    Embed,
    Guidance,
    Method,
    MethodConfig,
    Predict,
    PredictStep,
    conditions,
    predict_each,
    require_known,
)
from methods.concept_prompt import joined

if TYPE_CHECKING:
    from bench.backbones.pipeline import Backbone

STEPS = 50  # sampling steps of the publication, in which the warm-up is counted
CLAMPS = ("at-most-one", "at-least-one")


class Values(NamedTuple):
    """The five numbers of a strength; see SldConfig."""

    warmup: float
    safety_scale: float
    threshold: float
    momentum_scale: float
    momentum_beta: float


STRENGTHS = {
    "weak": Values(15, 200.0, 0.0, 0.0, 0.0),
    "medium": Values(10, 1000.0, 0.01, 0.3, 0.4),
    "strong": Values(7, 2000.0, 0.025, 0.5, 0.7),
    "max": Values(0, 5000.0, 1.0, 0.5, 0.7),
}


@dataclass(frozen=True)
class SldConfig(MethodConfig):
    """Settings. Those of the training loop have no effect. A number of None is that of the strength.

    Args:
        strength: one of STRENGTHS, which sets the five numbers below.
        warmup: delta, steps of 50 without safety guidance, at least 0.
        safety_scale: s_S, at least 0. With 0 the model is the untouched one.
        threshold: lambda, a number.
        momentum_scale: s_m, at least 0.
        momentum_beta: beta_m, in [0, 1].
        clamp: "at-most-one" for mu = min(1, |phi|), as in both releases of the code, or "at-least-one" for the printed
            mu = max(1, |phi|).
    """

    strength: str = "medium"
    warmup: float | None = None
    safety_scale: float | None = None
    threshold: float | None = None
    momentum_scale: float | None = None
    momentum_beta: float | None = None
    clamp: str = "at-most-one"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("strength", self.strength, STRENGTHS)
        require_known("clamp", self.clamp, CLAMPS)
        for name in ("warmup", "safety_scale", "momentum_scale"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, or none for that of the strength, not {value}")
        if self.momentum_beta is not None and not 0 <= self.momentum_beta <= 1:
            raise ValueError(
                f"momentum_beta must be in 0..1, or none for that of the strength, not {self.momentum_beta}"
            )

    @property
    def values(self) -> Values:
        """The five numbers: those that were set, and the others of the strength."""
        usual = STRENGTHS[self.strength]
        set_ones = {name: getattr(self, name) for name in Values._fields if getattr(self, name) is not None}
        return usual._replace(**set_ones)


class Sld(Method):
    """eps = eps(z_t, null) + s [(eps(z_t, p) - eps(z_t, null)) - 1(i >= delta) gamma_i], elementwise with

        phi_i = s_S (eps(z_t, p) - eps(z_t, S))
        mu_i = min(1, |phi_i|) where eps(z_t, p) - eps(z_t, S) < lambda, and 0 elsewhere
        gamma_i = mu_i (eps(z_t, S) - eps(z_t, null)) + s_m nu_i
        nu_0 = 0,  nu_(i+1) = beta_m nu_i + (1 - beta_m) gamma_i

    p is the prompt, S the concept prompt, s the guidance scale, and i counts the steps from 0. nu builds up during the
    warm-up too. S has the words for all concepts to forget, separated by commas; the authors have 20 words for harmful
    content there. Weights do not change.

    The published steps are 50, and delta counts these: with S steps in all, step i stands at 50 i / S. The paper prints
    max(1, |phi|), and both releases of the code take at most 1; `clamp` chooses. The scale of `weak` is 200, as in the
    authors' model card; diffusers has 20. A guidance scale of 0 samples from the null prompt, without any effect of
    SLD.
    """

    about = "safe latent diffusion: guidance away from the concept, while sampling; no weight changes"
    source = "Schramowski et al., CVPR 2023, arXiv 2211.05105"
    fidelity = "published"
    multi = "closed_form"
    tags = ("inference",)
    Config = SldConfig
    config: SldConfig

    def attach(
        self, backbone: Backbone, concepts: Sequence[str], tensors: Mapping[str, torch.Tensor]
    ) -> AbstractContextManager[object]:
        """The guidance of the class's formulas; nothing with a safety scale of 0."""
        if self.config.values.safety_scale == 0:
            return nullcontext()
        return backbone.guided_by(SafetyGuidance(joined(backbone, concepts), self.config))

    def passes(self, scale: float) -> int:
        """One each for the null prompt, the prompt and the concept; at a guidance scale of 0 only the first."""
        return 3 if scale and self.config.values.safety_scale else len(conditions(scale, None, None))

    def export(self, concepts: Sequence[str]) -> tuple[dict[str, Any], str]:
        """The arguments of diffusers' StableDiffusionPipelineSafe, whose warm-up counts the steps of the call."""
        values = self.config.values
        call = {
            "num_inference_steps": STEPS,
            "sld_guidance_scale": values.safety_scale,
            "sld_warmup_steps": values.warmup,
            "sld_threshold": values.threshold,
            "sld_momentum_scale": values.momentum_scale,
            "sld_mom_beta": values.momentum_beta,
        }
        told = {"pipeline": "StableDiffusionPipelineSafe", "safety_concept": ", ".join(concepts), "call": call}
        other = f"the setting clamp={self.config.clamp}: the pipeline of diffusers has at-most-one"
        return told, "" if self.config.clamp == CLAMPS[0] else other


@dataclass(frozen=True)
class SafetyGuidance(Guidance):
    """The guidance of SLD.

    Args:
        concept: the concept prompt S.
        config: the settings.
    """

    concept: str
    config: SldConfig

    def start(
        self, prompts: Sequence[str], predict: Predict, embed: Embed, scale: float, timesteps: torch.Tensor
    ) -> PredictStep:
        """As in Guidance."""
        if scale == 0:
            return super().start(prompts, predict, embed, scale, timesteps)
        texts = ([""] * len(prompts), [*prompts], [self.concept] * len(prompts))
        embeds = [embed(each) for each in texts]
        values = self.config.values
        at_most = self.config.clamp == "at-most-one"
        nu = torch.zeros(())

        def predict_step(latents: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            nonlocal nu
            eps_null, eps_prompt, eps_concept = predict_each(predict, latents, t, embeds)
            # phi = s_S (eps(z_t, p) - eps(z_t, S)), and mu
            gap = eps_prompt - eps_concept
            phi = (values.safety_scale * gap).abs()
            mu = (phi.clamp(max=1) if at_most else phi.clamp(min=1)).where(gap < values.threshold, 0.0)
            # gamma = mu (eps(z_t, S) - eps(z_t, null)) + s_m nu
            gamma = mu * (eps_concept - eps_null) + values.momentum_scale * nu
            # nu <- beta_m nu + (1 - beta_m) gamma
            nu = values.momentum_beta * nu + (1 - values.momentum_beta) * gamma
            # eps(z_t, null) + s [(eps(z_t, p) - eps(z_t, null)) - 1(i >= delta) gamma]
            guide = eps_prompt - eps_null
            if STEPS * step / len(timesteps) >= values.warmup:
                guide = guide - gamma
            return eps_null + scale * guide

        return predict_step
