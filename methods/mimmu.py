"""MiM-MU: forget a concept by minimising the mutual information between its prompt and the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from methods.base import Batch, Harness, Method, MethodConfig, added, require_known, require_scale
from methods.noise_levels import WEIGHTINGS, loss_weights_at, noised_with_weights, predicted_x0

# Functions of d, the mean squared distance of a prediction and its target, with sigma = 1 (f-DMU, arXiv 2509.21167).
# exp(d) is limited, because a d of 89 would be infinite in float32.
DIVERGENCES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "kl": lambda d: d,
    "hellinger": lambda d: 1 - torch.exp(-d / 8),
    "chi2": lambda d: torch.exp(d.clamp(max=20)) - 1,
}


@dataclass(frozen=True)
class MimMuConfig(MethodConfig):
    """Settings. Every value of the fields after `t_max` that is not the default is an ablation: see docs/methods.md.

    Args:
        t_min, t_max: timesteps are drawn from t_min..t_max, both included.
        weighting: w(t). "uniform": 1. "snr": |dl/dt|, clipped, with l the log-SNR. "logistic": 1 / density of l, with t
            drawn so that l is logistic.
        x_source: where z_t comes from. "forget": noised images of the forget set. "student" or "teacher": a sampling
            path of that network.
        objective: "align": pull the prediction on z_t to the target. "sds": judge it on the image that the student
            predicts from z_t in one step. "critic": judge this image by the pretrained model alone.
        target: "null": the null prompt. "rest": the prompt with the superclass in place of the concept.
        path_guidance: classifier-free guidance scale of the sampling paths, at least 0.
        path_steps: DDIM steps of a whole sampling path.
        divergence: the divergence that "align" minimises between two Gaussians of the same variance. "kl": the squared
            distance of their means. "hellinger" and "chi2": the functions of it in `DIVERGENCES`.
    """

    lr: float = 1e-5
    epochs: int | None = 30
    batch_size: int = 8
    parameters: str = "attn2"
    t_min: int = 50
    t_max: int = 950
    weighting: str = "uniform"
    x_source: str = "forget"
    objective: str = "align"
    target: str = "null"
    path_guidance: float = 3.0
    path_steps: int = 50
    divergence: str = added("kl")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("divergence", self.divergence, DIVERGENCES)
        require_known("weighting", self.weighting, WEIGHTINGS)
        require_known("x_source", self.x_source, ("forget", "student", "teacher"))
        require_known("objective", self.objective, ("align", "sds", "critic"))
        require_known("target", self.target, ("null", "rest"))
        require_scale("path_guidance", self.path_guidance)
        if not 0 <= self.t_min <= self.t_max:
            raise ValueError(f"t_min..t_max is {self.t_min}..{self.t_max}: no range of timesteps")
        if self.weighting == "logistic" and self.x_source != "forget":
            raise ValueError("a sampling path sets its own noise levels: weighting=logistic takes x_source=forget")
        if self.divergence != "kl" and self.objective != "align":
            raise ValueError(f"objective={self.objective} is a gradient and no distance: it takes divergence=kl")


class MimMu(Method):
    """L = E_{(z,c) in D_f, t, eps} w(t) || eps_theta(z_t, c) - sg[eps*(z_t, null)] ||^2, without retain data.

    The method is that of Xinwen Cheng, Jingyuan Zhang, Zhehao Huang, Yingwen Wu and Xiaolin Huang (Shanghai Jiao Tong
    University), arXiv 2603.00992, 1 March 2026.

    Let p* be the pretrained model, p_theta the student, and l the log-SNR of the noised latents z_t. The loss follows
    from the mutual information I_theta(x;c) of image and prompt in four steps:

    1. I_theta(x;c) = E_c KL(p_theta(x|c) || q) - KL(p_theta(x) || q) <= E_c KL(p_theta(x|c) || q) for any q.
       Choose q = p*(x), what the frozen model samples for the null prompt. The bound is zero if and only if
       p_theta(x|c) = p*(x) for every forget prompt c. Then the prompt says nothing about the image, and the marginal
       has not moved.
    2. KL(P || Q) = 1/2 int E_{x~P, eps} || eps_P(x_l) - eps_Q(x_l) ||^2 dl over the log-SNR l (Kong et al., 2024), so
       the bound is 1/2 int E || eps_theta(x_l, c) - eps*(x_l, null) ||^2 dl.
    3. Drop the part of the gradient that passes through the sampler and the U-Net's Jacobian. Replace
       x ~ p_theta(x|c) by images that the pretrained model sampled for c. This is exact at the start of the training,
       and the loss is zero for the same students.
    4. Replace the weight |dl/dt|, nearly flat from t = 100 on and singular at 0, by w = 1 and uniform t in 50..950.

    Published, in the abstract and in summaries (there is no code): the alignment with the pretrained model's
    unconditional distribution, the dropped Jacobian, cross-attention trained for 30 epochs with a small learning rate
    on a constructed forget set, no compensation. Reconstructed: the derivation, the range of t, the learning rate.
    """

    about = "aligns the forgotten prompt with the pretrained model's unconditional prediction; no retain data"
    source = "arXiv 2603.00992"
    fidelity = "reconstruction"
    Config = MimMuConfig
    config: MimMuConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss of step 4 above on one batch. The numbers in comments are those of the steps."""
        c, config = batch.prompt_embeds, self.config
        # 1. q: the teacher's distribution for the null prompt, or for the superclass
        if config.target == "rest":
            q = harness.superclass_embeds(batch.concepts, batch.templates)
        else:
            q = harness.null_embeds(len(batch))
        # 3. z_t from the pretrained model's images; 4. t and w(t)
        z, t, w = self.examples(harness, batch)
        predicted = harness.student(z, t, c)
        if config.objective == "align":
            # 2. sg[eps*(z_t, q)]
            target = harness.teacher(z, t, q)
        else:
            # 2. at x_0, the image that the student predicts from z_t: the bound's gradient in x_0,
            # eps_theta(x_s, c) - eps*(x_s, q), goes to the prediction; 3. past the Jacobians of both U-Nets.
            # "critic" has the gradient of log p*(x|c) - log p*(x|q), eps*(x_s, c) - eps*(x_s, q), in its place
            with torch.no_grad():
                x0 = predicted_x0(harness, z, t, predicted)
                x_s, s, w = noised_with_weights(harness, x0, config.weighting, config.t_min, config.t_max)
                conditional = harness.student if config.objective == "sds" else harness.teacher
                target = predicted + harness.teacher(x_s, s, q) - conditional(x_s, s, c)
        # w(t) D(|| eps_theta(z_t, c) - target ||^2), D the identity for the divergence "kl"
        distance = (predicted - target).square().mean((1, 2, 3))
        return (w * DIVERGENCES[config.divergence](distance)).mean()

    def examples(self, harness: Harness, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z_t, float32 (B, C, h, w); the timesteps t, int64 (B,); and the weights w(t), float32 (B,)."""
        config, span = self.config, (self.config.t_min, self.config.t_max)
        if config.x_source == "forget":
            return noised_with_weights(harness, batch.latents, config.weighting, *span)
        path = config.x_source, config.path_guidance, config.path_steps
        z, t = harness.sampled(batch.prompt_embeds, *path, *span)
        return z, t, loss_weights_at(harness, t, config.weighting, *span)


@dataclass(frozen=True)
class MimMuSdsConfig(MimMuConfig):
    """Settings of MiM-MU, with the objective on the student's images."""

    objective: str = "sds"


@dataclass(frozen=True)
class MimMuCriticConfig(MimMuConfig):
    """Settings of MiM-MU, with the pretrained model as the only judge of the student's images."""

    objective: str = "critic"


class MimMuSds(MimMu):
    __doc__ = MimMu.__doc__
    about = "MiM-MU read as: the bound's gradient at images of the student; no retain data"
    Config = MimMuSdsConfig


class MimMuCritic(MimMu):
    __doc__ = MimMu.__doc__
    about = "MiM-MU read as: the frozen model's error on images of the student, without a stopping point"
    Config = MimMuCriticConfig
