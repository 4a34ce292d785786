"""SDD: safe self-distillation. The student's own prediction for the null prompt is the target for the concept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness, Method, MethodConfig, added, require_at_least, require_scale


@dataclass(frozen=True)
class SddConfig(MethodConfig):
    """Settings. The defaults are the authors'.

    Args:
        path_guidance: classifier-free guidance scale of the sampling paths, at least 0.
        path_steps: DDIM steps of a whole sampling path.
        path_batch: batches whose paths are drawn at once, at least 1. More than 1 is not the published method:
            see docs/methods.md.
    """

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
    path_steps: int = 50
    path_batch: int = added(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale("path_guidance", self.path_guidance)
        require_at_least(self, 1, "path_batch")


class Sdd(Method):
    """L = || eps_theta(z_t, c) - sg[eps_theta(z_t, null)] ||^2. The result is the moving average of theta.

    z_t comes from the sampling path of the moving average for c under guidance, stopped at a random step, and t is
    uniform in the bin of that step. Neither an image nor the original network is used.

    Where the authors' script differs from the published method, this follows the method: a path that stops before its
    first step is pure noise, while the script runs the whole path and keeps the high t. With several concepts, each
    step shows one, in the loss as on the path, and the concepts take turns ("iterative").
    """

    about = "distils the student's own null prediction into the concept's, and keeps the moving average; no images"
    source = "Kim et al., 2023, arXiv 2307.05977"
    fidelity = "published"
    multi = "alternate"
    Config = SddConfig
    config: SddConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss of Kim et al., 2023, on the prompts of the batch."""
        c, null, config = batch.prompt_embeds, harness.null_embeds(len(batch)), self.config
        # z_t: a partial sampling path of the moving average for c
        z, t = harness.sampled_ahead(batch, "average", config.path_guidance, config.path_steps, config.path_batch)
        # sg[eps_theta(z_t, null)]
        with torch.no_grad():
            target = harness.student(z, t, null)
        # || eps_theta(z_t, c) - target ||^2
        return F.mse_loss(harness.student(z, t, c), target)
