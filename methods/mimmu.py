"""MiM-MU: forgetting a concept by minimising the mutual information between its prompt and the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.training.harness import Batch, Harness
from methods.base import Method, MethodConfig, require_known, require_scale
from methods.family import erasure_target
from methods.noise_levels import WEIGHTINGS, noised, predicted_clean, weights_at


@dataclass(frozen=True)
class MimMuConfig(MethodConfig):
    """Settings; whatever stands after `t_max` is an ablation of the method, see docs/methods.md."""

    lr: float = 1e-5
    epochs: int | None = 30
    batch_size: int = 8
    parameters: str = "attn2"
    t_min: int = 50  # t is drawn from t_min..t_max, both included
    t_max: int = 950
    weighting: str = "uniform"  # w(t): uniform, snr (|dl/dt|, clipped) or logistic (t drawn logistic in l)
    x_source: str = "forget"  # z_t: noised forget images, or a sampling path of the student or the teacher
    objective: str = "align"  # or sds: align judged on images the student predicts in one step
    target: str = "null"  # or rest: the same prompt without the concept
    path_guidance: float = 3.0
    path_steps: int = 50  # DDIM steps of a whole sampling path

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("weighting", self.weighting, WEIGHTINGS)
        require_known("x_source", self.x_source, ("forget", "student", "teacher"))
        require_known("objective", self.objective, ("align", "sds"))
        require_known("target", self.target, ("null", "rest"))
        require_scale("path_guidance", self.path_guidance)
        if not 0 <= self.t_min <= self.t_max:
            raise ValueError(f"t_min..t_max is {self.t_min}..{self.t_max}: no range of timesteps")
        if self.weighting == "logistic" and self.x_source != "forget":
            raise ValueError("a sampling path sets its own noise levels: weighting=logistic takes x_source=forget")


class MimMu(Method):
    """L = E_{(z,c) in D_f, t, eps} w(t) || eps_theta(z_t, c) - sg[eps*(z_t, null)] ||^2; no retain data.

    From I(x;c) to that loss, with p* the pretrained model, p_theta the student and z_t the noised latents:

    1. I_theta(x;c) = E_c KL(p_theta(x|c) || q) - KL(p_theta(x) || q) <= E_c KL(p_theta(x|c) || q) for any q.
       Take q = p*(x), what the frozen model draws for the null prompt. The bound is zero iff p_theta(x|c) = p*(x)
       for every forget prompt: the prompt then says nothing about the image, and the marginal has not moved.
    2. KL(P || Q) = 1/2 int E_{x~P, eps} || eps_P(x_l) - eps_Q(x_l) ||^2 dl over the log-SNR l (Kong et al. 2024),
       so the bound is 1/2 int E || eps_theta(x_l, c) - eps*(x_l, null) ||^2 dl.
    3. The gradient's path through the sampler and the U-Net's Jacobian is dropped, and x ~ p_theta(x|c) is replaced
       by images the pretrained model drew for c: exact at the start of training, with the same zero.
    4. Uniform t in 50..950 stands in for the weight |dl/dt|, nearly flat from t = 100 on and singular at 0; w = 1.

    Published, in abstract and summaries (there is no code to follow): alignment with the pretrained model's
    unconditional distribution, the Jacobian dropped, cross-attention trained for 30 epochs with a small learning rate
    on a constructed forgetting set, no compensation. Reconstructed: the derivation, the range of t, the learning rate.
    """

    about = "aligns the forgotten prompt with the pretrained model's unconditional prediction; no retain data"
    source = "arXiv 2603.00992"
    fidelity = "reconstruction"
    Config = MimMuConfig
    config: MimMuConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """Mean of w(t) times the squared distance of the student's conditional from the target."""
        config, c = self.config, batch.prompt_embeds
        anchor = harness.rest(batch.concepts, batch.templates) if config.target == "rest" else None
        z, t, w = self.examples(harness, batch)
        predicted = harness.student(z, t, c)
        if config.objective == "align":
            target = erasure_target(harness, z, t, c, anchor)
        else:  # the bound at the student's own x0, its gradient handed to x0 past both U-Nets' Jacobians
            with torch.no_grad():
                x0 = predicted_clean(harness, z, t, predicted)
                z, t, w = noised(harness, x0, config.weighting, config.t_min, config.t_max)
                target = predicted + erasure_target(harness, z, t, c, anchor) - harness.student(z, t, c)
        return (w * (predicted - target).square().mean((1, 2, 3))).mean()

    def examples(self, harness: Harness, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z_t, (B, C, h, w), the timesteps and their weights, (B,)."""
        config, span = self.config, (self.config.t_min, self.config.t_max)
        if config.x_source == "forget":
            return noised(harness, batch.latents, config.weighting, *span)
        path = config.x_source, config.path_guidance, config.path_steps
        z, t = harness.sampled(batch.prompt_embeds, *path, *span)
        return z, t, weights_at(harness, t, config.weighting, *span)
