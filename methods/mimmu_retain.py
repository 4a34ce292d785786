"""MiM-MU with compensation: what matching the teacher on retained images adds, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness
from methods.mimmu import MimMu, MimMuConfig


@dataclass(frozen=True)
class MimMuRetainConfig(MimMuConfig):
    """Settings of MiM-MU, and `gamma`, the weight of the loss on retained images, at least 0."""

    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma < 0:
            raise ValueError(f"gamma must be at least 0, not {self.gamma}: it is the weight of a loss")


class MimMuRetain(MimMu):
    """L = L_MiM-MU + gamma || eps_theta(r_t, c_r) - eps*(r_t, c_r) ||^2, with images r of retained concepts c_r.

    The second term pulls the student to the pretrained model's own prediction. The MiM-MU paper argues against two
    kinds of compensation: using retained data, and bounding the divergence from the pretrained model. This term is
    both. It is not a published method. It shows what compensation adds to MiM-MU.
    """

    about = "MiM-MU plus teacher matching on retained images: the compensation baseline"
    source = "a baseline of this benchmark, on arXiv 2603.00992"
    fidelity = "reconstruction"
    tags = ("compensation",)
    Config = MimMuRetainConfig
    config: MimMuRetainConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss of MiM-MU plus teacher matching on as many retained examples."""
        retained = harness.retain_batch(len(batch))
        r, _, t = harness.noised(retained.latents, self.config.t_min, self.config.t_max)
        # || eps_theta(r_t, c_r) - sg[eps*(r_t, c_r)] ||^2
        target = harness.teacher(r, t, retained.prompt_embeds)
        matching = F.mse_loss(harness.student(r, t, retained.prompt_embeds), target)
        return super().loss(harness, batch) + self.config.gamma * matching
