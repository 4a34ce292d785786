"""Scissorhands: trim the weights that matter most for the concept, and repair the rest on retained images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness, Method, MethodConfig, require_scale
from methods.salun import guided_loss, saliency_mask


@dataclass(frozen=True)
class ShsConfig(MethodConfig):
    """Settings. The defaults are the authors' for forgetting a class of Stable Diffusion.

    Args:
        trimmed: share of the weights that are drawn anew, more than 0 and less than 1.
        deviation: standard deviation of the new weights, more than 0; they are cut off at two of it.
        guidance: classifier-free guidance scale in the loss on the concept's images, at least 0.
        alpha: weight of the loss on the concept's images, which is raised, at least 0.
        projected: whether a gradient that would bring the concept back is projected away from that.
    """

    lr: float = 2e-5
    epochs: int | None = 3
    batch_size: int = 8
    parameters: str = "unet"
    trimmed: float = 0.001
    deviation: float = 0.02
    guidance: float = 7.5
    alpha: float = 0.1
    projected: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale("guidance", self.guidance)
        if not 0 < self.trimmed < 1:
            raise ValueError(f"trimmed must be more than 0 and less than 1, not {self.trimmed}")
        if self.deviation <= 0 or self.alpha < 0:
            raise ValueError(
                f"deviation must be more than 0 and alpha at least 0, not {self.deviation} and {self.alpha}"
            )


class Shs(Method):
    """Trim by s = |w| sum_b |grad L_b|, then minimise L_r - alpha L_f, without a step that would lower L_f.

    L_f = || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2 on the images to forget, and
    L_r = || eps_theta(r_t, c_r) - eps ||^2 on retained images r. The weights with the largest s over one pass of the
    forget set, of all weights together, are drawn anew from a truncated normal distribution; biases become 0.

    g_o = grad (-L_f) at the trimmed weights is a memory of the direction that forgets. A step's gradient
    g = grad (L_r - alpha L_f) with <g, g_o> < 0 becomes g + v g_o, v = max(1/2, -<g, g_o> / (|| g_o ||^2 + 1e-3)).

    Where the authors' scripts differ from the paper, this follows the paper: the scripts for Stable Diffusion never
    project (`projected=false`), and draw only the self-attention of two blocks anew.
    """

    about = "draws the concept's most salient weights anew, and repairs the rest on retained images"
    source = "Wu & Harandi, ECCV 2024, arXiv 2401.06187"
    fidelity = "published"
    tags = ("compensation",)
    Config = ShsConfig
    config: ShsConfig

    def prepare(self, harness: Harness) -> None:
        """Trim the salient weights, and keep the gradient that forgets."""
        parameters = harness.trained
        saliency = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for batch in harness.forget_batches(self.config.batch_size):
            self.forget_loss(harness, batch).backward()
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    saliency[name] += parameter.grad.abs()
            harness.unet.zero_grad(set_to_none=True)
        scores = {name: parameters[name].detach() * total for name, total in saliency.items()}
        self.trim(harness, saliency_mask(scores, self.config.trimmed))
        for batch in harness.forget_batches(self.config.batch_size):
            (-self.forget_loss(harness, batch)).backward()
        self.memory = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        harness.unet.zero_grad(set_to_none=True)

    @torch.no_grad()
    def trim(self, harness: Harness, mask: dict[str, torch.Tensor]) -> None:
        """Draw the weights within `mask` anew, and set the biases within it to 0."""
        deviation, generator = self.config.deviation, harness.generator
        for name, parameter in harness.trained.items():
            drawn = torch.zeros(parameter.shape)
            if parameter.dim() > 1:
                torch.nn.init.trunc_normal_(drawn, 0.0, deviation, -2 * deviation, 2 * deviation, generator)
            parameter.copy_(torch.where(mask[name], drawn.to(parameter), parameter))

    def forget_loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """L_f on the batch."""
        return guided_loss(harness, batch, self.config.guidance)

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """L_r - alpha L_f, with as many retained examples."""
        retained = harness.retain_batch(len(batch))
        r, noise, t = harness.noised(retained.latents)
        retain = F.mse_loss(harness.student(r, t, retained.prompt_embeds), noise)
        return retain - self.config.alpha * self.forget_loss(harness, batch)

    def after_backward(self, harness: Harness) -> None:
        """g <- g + v g_o if <g, g_o> < 0."""
        if not self.config.projected:
            return
        pairs = [(harness.trained[name].grad, memory) for name, memory in self.memory.items()]
        together = torch.stack([(g * m).sum() for g, m in pairs if g is not None]).sum()
        size = torch.stack([m.square().sum() for _, m in pairs]).sum()
        v = torch.where(together < 0, (-together / (size + 1e-3)).clamp(min=0.5), 0.0)
        for gradient, memory in pairs:
            if gradient is not None:
                gradient.add_(v * memory)
