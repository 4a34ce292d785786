"""EraseDiff: keep the retained data, among the weights that forget the concept. Both gradients meet in each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness, Method, MethodConfig


@dataclass(frozen=True)
class EraseDiffConfig(MethodConfig):
    """Settings. Learning rate, length and parameters are the authors' for forgetting a class of Stable Diffusion.

    Args:
        weight: lambda, the weight of the forgetting gradient, at least 0. None: as large as the descent of the
            forgetting loss needs, with `eta`.
        eta: how fast the forgetting loss falls at least, as a share of what its own gradient would give; more than 0.
    """

    lr: float = 1e-5
    epochs: int | None = 2
    batch_size: int = 8
    parameters: str = "unet"
    weight: float | None = None
    eta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None and self.weight < 0:
            raise ValueError(f"weight must be at least 0, or none, not {self.weight}: it is the weight of a loss")
        if self.eta <= 0:
            raise ValueError(f"eta must be more than 0, not {self.eta}: or the concept need not be forgotten")


class EraseDiff(Method):
    """theta <- theta - lr (grad L_r + lambda grad q), lambda = max(0, eta - <grad L_r, grad q> / || grad q ||^2).

    L_r = || eps_theta(r_t, c_r) - eps ||^2 on retained images r of concepts c_r, and q = f(theta) - f(phi) with
    f = || eps_theta(z_t, c) - sg[eps_theta(z_t, c')] ||^2 on the images to forget, where c' is another concept of the
    domain. phi are the weights after a few steps that lower f. phi is held fixed in the outer step, so f(phi) has no
    gradient and grad q = grad f: the inner steps do not change the result, and this method leaves them out.

    The optimiser takes the step: Adam, as in the authors' code. Their code for Stable Diffusion has a fixed lambda
    (`weight`), the prompt "a photo of a pokemon" as c', and throws all outer passes but the last of an epoch away.
    """

    about = "retains with a gradient that is corrected until it also forgets; retained images, a random label"
    source = "Wu et al., 2024, arXiv 2401.05779"
    fidelity = "published"
    tags = ("compensation",)
    Config = EraseDiffConfig
    config: EraseDiffConfig

    def prepare(self, harness: Harness) -> None:
        """Begin with no gradient of q."""
        self.forgetting: dict[str, torch.Tensor] = {}

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """L_r. The gradient of f, which is that of q, is kept for the step."""
        z, _, t = harness.noised(batch.latents)
        other_concepts = [harness.choose(harness.siblings[concept]) for concept in batch.concepts]
        # sg[eps_theta(z_t, c')]
        with torch.no_grad():
            target = harness.student(z, t, harness.anchor_embeds(other_concepts, batch.templates))
        f = F.mse_loss(harness.student(z, t, batch.prompt_embeds), target)
        # grad q = grad f: f(phi) is a constant
        gradients = torch.autograd.grad(f, list(harness.trained.values()))
        self.forgetting = dict(zip(harness.trained, gradients, strict=True))
        # || eps_theta(r_t, c_r) - eps ||^2
        retained = harness.retain_batch(len(batch))
        r, noise, t = harness.noised(retained.latents)
        return F.mse_loss(harness.student(r, t, retained.prompt_embeds), noise)

    def after_backward(self, harness: Harness) -> None:
        """grad <- grad L_r + lambda grad q."""
        pairs = [(harness.trained[name].grad, q) for name, q in self.forgetting.items()]
        weight = self.config.weight
        if weight is None:
            along = torch.stack([(g * q).sum() for g, q in pairs if g is not None]).sum()
            size = torch.stack([q.square().sum() for _, q in pairs]).sum()
            lamb = (self.config.eta - along / size).clamp(min=0)
        else:
            lamb = torch.tensor(weight)
        for gradient, q in pairs:
            if gradient is not None:
                gradient.add_(lamb * q)
