"""SDD: safe self-distillation, in which the student's own null prediction teaches it what the concept should mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.training.harness import Batch, Harness
from methods.base import Method, MethodConfig, require_scale
from methods.family import erasure_target


@dataclass(frozen=True)
class SddConfig(MethodConfig):
    """Settings; defaults are the authors'."""

    lr: float = 1e-5
    epochs: int | None = None
    steps: int | None = 1500
    batch_size: int = 1
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = 0.999
    parameters: str = "attn2"
    path_guidance: float = 3.0
    path_steps: int = 50  # DDIM steps of a whole sampling path

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale("path_guidance", self.path_guidance)


class Sdd(Method):
    """L = || eps_theta(z_t, c) - sg[eps_theta(z_t, null)] ||^2; the result is the moving average of theta.

    z_t lies on the sampling path of that average for c under guidance, broken off at a random step; t is uniform in the
    bin of that step. No image and no original network is needed.

    Where the authors' script differs from the method, the method is followed: breaking off before the first step means
    pure noise (the script runs the whole path then, and keeps the high t). Of several concepts each step has one,
    in the loss as on the path, and they take turns ("iterative").
    """

    about = "distils the student's own null prediction into the concept's, and keeps the moving average; no images"
    source = "Kim et al., 2023, arXiv 2307.05977"
    fidelity = "published"
    multi = "alternate"
    Config = SddConfig
    config: SddConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """Mean squared distance of the student's conditional from its own null prediction."""
        c, config = batch.prompt_embeds, self.config
        latents, timesteps = harness.sampled(c, "average", config.path_guidance, config.path_steps)
        target = erasure_target(harness, latents, timesteps, c, anchor="student")
        return F.mse_loss(harness.student(latents, timesteps, c), target)
