"""SalUn: saliency-masked relabelling of the concept, with a denoising loss on retained data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.training.harness import Batch, Harness
from methods.base import Method, MethodConfig, require_scale
from methods.family import erasure_target


@dataclass(frozen=True)
class SalUnConfig(MethodConfig):
    """Settings; defaults are those of the authors' class-forgetting recipe for Stable Diffusion."""

    lr: float = 1e-5
    epochs: int | None = 5
    batch_size: int = 8
    parameters: str = "unet"
    alpha: float = 0.5  # weight of the retain loss
    mask_fraction: float = 0.5  # share of the weights that may change
    mask_guidance: float = 7.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale("mask_guidance", self.mask_guidance)
        if self.weight_decay:
            raise ValueError("weight_decay would move the weights outside of the mask as well: it must be 0")


class SalUn(Method):
    """L = || eps_theta(z_t, c) - sg[eps_theta(z_t, c')] ||^2 + alpha || eps_theta(r_t, c_r) - eps ||^2, within a mask.

    c' is another concept of the same domain, drawn anew for every example; r are images of retained concepts. The
    mask lets through the gradient of a `mask_fraction` of all weights: those with the largest |gradient|, summed over
    one pass through the forget set, of || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2.

    Where scripts differ from the paper, the paper is followed: c' is random (one script takes the next class), the
    null prompt of the mask is empty (one copy passes the concept's), the mask is applied (in one copy it never is).
    """

    about = "relabels the concept within a mask of salient weights, and keeps the rest by retain data"
    source = "Fan et al., ICLR 2024, arXiv 2310.12508"
    fidelity = "published"
    Config = SalUnConfig
    config: SalUnConfig

    def prepare(self, harness: Harness) -> None:
        """Compute the saliency mask."""
        g = self.config.mask_guidance
        for batch in harness.forget_batches(self.config.batch_size):
            latents, noise, timesteps = harness.noised(batch.latents)
            concept = harness.student(latents, timesteps, batch.prompt_embeds)
            null = harness.student(latents, timesteps, harness.null(len(batch)))
            (-F.mse_loss((1 + g) * concept - g * null, noise)).backward()
        gradients = {n: p.grad for n, p in harness.trained.items() if p.grad is not None}
        self.mask = saliency_mask(gradients, self.config.mask_fraction)
        harness.unet.zero_grad(set_to_none=True)

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """Relabelling on the forget batch plus denoising on as many retained examples."""
        latents, _, timesteps = harness.noised(batch.latents)
        others = [harness.choose(harness.siblings[concept]) for concept in batch.concepts]
        relabelled = harness.anchors(others, batch.templates)
        target = erasure_target(harness, latents, timesteps, batch.prompt_embeds, relabelled, anchor="student")
        forget = F.mse_loss(harness.student(latents, timesteps, batch.prompt_embeds), target)
        kept = harness.retain_batch(len(batch))
        latents, noise, timesteps = harness.noised(kept.latents)
        retain = F.mse_loss(harness.student(latents, timesteps, kept.prompt_embeds), noise)
        return forget + self.config.alpha * retain

    def after_backward(self, harness: Harness) -> None:
        """Only salient weights move."""
        for name, parameter in harness.trained.items():
            if parameter.grad is not None:
                parameter.grad.mul_(self.mask[name])


def saliency_mask(gradients: dict[str, torch.Tensor], fraction: float) -> dict[str, torch.Tensor]:
    """Boolean masks, named and shaped as `gradients`, of the `fraction` of all entries largest in magnitude.

    What equals the smallest of these is in as well. That one is found bit by bit, since floats without a sign are in
    the order of their bits: sorting all entries of a U-Net would take several times the memory of its gradients.
    """
    wanted = round(fraction * sum(g.numel() for g in gradients.values()))
    smallest = torch.zeros((), dtype=torch.int32, device=next(iter(gradients.values())).device)
    for bit in reversed(range(31)):
        higher = smallest + (1 << bit)
        count = sum(torch.count_nonzero(bits(g) >= higher) for g in gradients.values())
        smallest = torch.where(torch.as_tensor(count) >= wanted, higher, smallest)
    return {name: bits(g) >= smallest for name, g in gradients.items()}


def bits(values: torch.Tensor) -> torch.Tensor:
    """The bits of magnitudes, as integers: int32, the shape of `values`."""
    return values.abs().float().contiguous().view(torch.int32)
