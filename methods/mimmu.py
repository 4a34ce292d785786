"""MiM-MU: forgetting a concept by minimising the mutual information between its prompt and the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.harness import Batch, Harness
from methods.base import Method, MethodConfig
from methods.family import erasure_target


@dataclass(frozen=True)
class MimMuConfig(MethodConfig):
    """Settings; `timesteps` is the range, both ends included, that t is drawn from."""

    lr: float = 1e-5
    epochs: int | None = 30
    batch_size: int = 8
    parameters: str = "attn2"
    timesteps: tuple[int, int] = (50, 950)


class MimMu(Method):
    """L = E_{(z,c) in D_f, t, eps} || eps_theta(z_t, c) - sg[eps*(z_t, null)] ||^2 on cross-attention, no retain data.

    From I(x;c) to that loss, with p* the pretrained model, p_theta the student and z_t the noised latents:

    1. I_theta(x;c) = E_c KL(p_theta(x|c) || q) - KL(p_theta(x) || q) <= E_c KL(p_theta(x|c) || q) for any q.
       Take q = p*(x), what the frozen model draws for the null prompt. The bound is zero iff p_theta(x|c) = p*(x)
       for every forget prompt: the prompt then says nothing about the image, and the marginal has not moved.
    2. KL(P || Q) = 1/2 int E_{x~P, eps} || eps_P(x_l) - eps_Q(x_l) ||^2 dl over the log-SNR l (Kong et al. 2024),
       so the bound is 1/2 int E || eps_theta(x_l, c) - eps*(x_l, null) ||^2 dl.
    3. The gradient's path through the sampler and the U-Net's Jacobian is dropped, and x ~ p_theta(x|c) is replaced
       by images the pretrained model drew for c: exact at the start of training, with the same zero.
    4. Uniform t in 50..950 stands in for the weight |dl/dt|, nearly flat from t = 100 on and singular at 0.

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
        """Mean squared distance of the student's conditional from the teacher's null prediction."""
        latents, _, timesteps = harness.noised(batch.latents, *self.config.timesteps)
        null = harness.null(len(batch))
        target = erasure_target(harness, latents, timesteps, batch.prompt_embeds, null)
        return F.mse_loss(harness.student(latents, timesteps, batch.prompt_embeds), target)
