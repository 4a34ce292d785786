"""SalUn: relabel the concept within a mask of salient weights, and denoise retained data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness, Method, MethodConfig, added, require_known, require_scale


@dataclass(frozen=True)
class SalUnConfig(MethodConfig):
    """Settings. The defaults are those of the authors' class-forgetting recipe for Stable Diffusion.

    Args:
        alpha: weight of the loss on retained images, at least 0.
        mask_fraction: share of the weights that may change, more than 0 and at most 1.
        mask_guidance: classifier-free guidance scale in the loss that the mask is computed from, at least 0.
        pseudo_label: the concept that relabels an example. "random": one of the domain, drawn anew for each example.
                "next": the kept concept that follows in the domain, as in the authors' script.

    Raises ValueError for a value out of range, and for a non-zero `weight_decay`, which would change weights outside of
    the mask too.
    """

    lr: float = 1e-5
    epochs: int | None = 5
    batch_size: int = 8
    parameters: str = "unet"
    alpha: float = 0.5
    mask_fraction: float = 0.5
    mask_guidance: float = 7.5
    pseudo_label: str = added("random")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("pseudo_label", self.pseudo_label, ("random", "next"))
        require_scale("mask_guidance", self.mask_guidance)
        if self.alpha < 0:
            raise ValueError(f"alpha must be at least 0, not {self.alpha}: it is the weight of a loss")
        if not 0 < self.mask_fraction <= 1:
            raise ValueError(f"mask_fraction must be more than 0 and at most 1, not {self.mask_fraction}")
        if self.weight_decay:
            raise ValueError("weight_decay would move the weights outside of the mask as well: it must be 0")


class SalUn(Method):
    """L = || eps_theta(z_t, c) - sg[eps_theta(z_t, c')] ||^2 + alpha || eps_theta(r_t, c_r) - eps ||^2, within a mask.

    c' is another concept of the same domain, drawn anew for every example. r are images of retained concepts c_r. The
    mask keeps the gradient of the `mask_fraction` of all weights with the largest |gradient|, summed over one pass
    through the forget set, of || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2.

    Where the authors' scripts differ from the paper, this follows the paper: c' is random (one script takes the next
    class: `pseudo_label=next`), the null prompt of the mask is empty (one copy uses the concept's prompt), and the mask
    is applied (one copy never applies it).
    """

    about = "relabels the concept within a mask of salient weights, and keeps the rest by retain data"
    source = "Fan et al., ICLR 2024, arXiv 2310.12508"
    fidelity = "published"
    tags = ("compensation",)
    Config = SalUnConfig
    config: SalUnConfig

    def prepare(self, harness: Harness) -> None:
        """Compute the weight saliency mask of Fan et al., 2024: m_S = 1(|grad l_f| >= gamma)."""
        for batch in harness.forget_batches(self.config.batch_size):
            # l_f = - || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2
            (-guided_loss(harness, batch, self.config.mask_guidance)).backward()
        gradients = {n: p.grad for n, p in harness.trained.items() if p.grad is not None}
        self.mask = saliency_mask(gradients, self.config.mask_fraction)
        harness.unet.zero_grad(set_to_none=True)

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss of Fan et al., 2024, for image generation, with as many retained examples."""
        z, _, t = harness.noised(batch.latents)
        # c' != c: a random label for each example, or the next one
        other_concepts = [self.other_concept(harness, concept) for concept in batch.concepts]
        relabelled = harness.anchor_embeds(other_concepts, batch.templates)
        # sg[eps_theta(z_t, c')]
        with torch.no_grad():
            target = harness.student(z, t, relabelled)
        # || eps_theta(z_t, c) - target ||^2
        forget = F.mse_loss(harness.student(z, t, batch.prompt_embeds), target)
        # || eps_theta(r_t, c_r) - eps ||^2
        retained = harness.retain_batch(len(batch))
        r, noise, t = harness.noised(retained.latents)
        retain = F.mse_loss(harness.student(r, t, retained.prompt_embeds), noise)
        return forget + self.config.alpha * retain

    def other_concept(self, harness: Harness, concept: str) -> str:
        """The pseudo label c' of an example of `concept`."""
        if self.config.pseudo_label == "next":
            return harness.next_sibling[concept]
        return harness.choose(harness.siblings[concept])

    def after_backward(self, harness: Harness) -> None:
        """Apply the mask: grad <- m_S * grad, so that only salient weights change."""
        for name, parameter in harness.trained.items():
            if parameter.grad is not None:
                parameter.grad.mul_(self.mask[name])


def guided_loss(harness: Harness, batch: Batch, g: float) -> torch.Tensor:
    """|| eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2 on the images to forget: a float32 scalar."""
    z, noise, t = harness.noised(batch.latents)
    eps_c = harness.student(z, t, batch.prompt_embeds)
    eps_null = harness.student(z, t, harness.null_embeds(len(batch)))
    return F.mse_loss((1 + g) * eps_c - g * eps_null, noise)


def saliency_mask(gradients: dict[str, torch.Tensor], fraction: float) -> dict[str, torch.Tensor]:
    """Boolean masks of the entries with the largest magnitude, over all tensors together.

    Args:
        gradients: parameter name -> tensor of any shape.
        fraction: in 0..1, the share of entries to keep. Entries equal to the smallest kept one are kept too.

    Returns masks with the names and shapes of `gradients`.

    The threshold is found bit by bit, because magnitudes of floats sort like their bits. Sorting all entries of a
    U-Net would take several times the memory of its gradients.

    Example:
        >>> saliency_mask({"a": torch.tensor([0.1, -5.0]), "b": torch.tensor([0.3, 4.0])}, 0.5)
        {'a': tensor([False,  True]), 'b': tensor([False,  True])}
    """
    kept = round(fraction * sum(g.numel() for g in gradients.values()))
    threshold = torch.zeros((), dtype=torch.int32, device=next(iter(gradients.values())).device)
    for bit in reversed(range(31)):
        higher = threshold + (1 << bit)
        count = sum(torch.count_nonzero(magnitude_bits(g) >= higher) for g in gradients.values())
        threshold = torch.where(torch.as_tensor(count) >= kept, higher, threshold)
    return {name: magnitude_bits(g) >= threshold for name, g in gradients.items()}


def magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    """The bits of |values| as integers: int32, the shape of `values`."""
    return values.abs().float().contiguous().view(torch.int32)
