"""MiM-MU with compensation: what it gains, and what it costs, to hold on to retained images as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.training.harness import Batch, Harness
from methods.mimmu import MimMu, MimMuConfig


@dataclass(frozen=True)
class MimMuRetainConfig(MimMuConfig):
    """Settings of MiM-MU, and the weight of what is added to it."""

    gamma: float = 1.0


class MimMuRetain(MimMu):
    """L = L_MiM-MU + gamma || eps_theta(r_t, c_r) - eps*(r_t, c_r) ||^2, r being images of retained concepts c_r.

    The second term holds the student to the pretrained model's own prediction: of the two kinds of compensation that
    the MiM-MU paper argues against, bringing retained data back in and bounding the divergence from the pretrained
    model, it is both. It is no published method; it is there to tell what compensation adds to the method without.
    """

    about = "MiM-MU plus teacher matching on retained images: the compensation baseline"
    source = "a baseline of this benchmark, on arXiv 2603.00992"
    fidelity = "reconstruction"
    Config = MimMuRetainConfig
    config: MimMuRetainConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """MiM-MU's loss plus the matching of as many retained examples."""
        kept = harness.retain_batch(len(batch))
        latents, _, timesteps = harness.noised(kept.latents, self.config.t_min, self.config.t_max)
        target = harness.teacher(latents, timesteps, kept.prompt_embeds)
        matched = F.mse_loss(harness.student(latents, timesteps, kept.prompt_embeds), target)
        return super().loss(harness, batch) + self.config.gamma * matched
