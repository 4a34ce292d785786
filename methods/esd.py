"""ESD: erasing a concept by steering its prediction away from it, on the student's own sampling paths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.training.harness import Batch, Harness
from methods.base import Method, MethodConfig, require_scale
from methods.family import erasure_target


@dataclass(frozen=True)
class EsdConfig(MethodConfig):
    """Settings; defaults are those of the authors' first release."""

    lr: float = 1e-5
    epochs: int | None = None
    steps: int | None = 1000
    batch_size: int = 1
    parameters: str = "attn2"
    eta: float = 1.0  # the paper's negative guidance
    path_guidance: float = 3.0
    path_steps: int = 50  # DDIM steps of a whole sampling path

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale("path_guidance", self.path_guidance)


@dataclass(frozen=True)
class EsdUConfig(EsdConfig):
    """The same, on the weights that no prompt reaches directly."""

    parameters: str = "not-attn2"


class Esd(Method):
    """L = || eps_theta(z_t, c) - sg[eps*(z_t, null) - eta (eps*(z_t, c) - eps*(z_t, null))] ||^2.

    z_t lies on the student's own sampling path for c under guidance, broken off at a random step; t is uniform in the
    bin of that step. No image is needed. ESD-x trains cross-attention (for concepts that prompts name), ESD-u the rest
    of the U-Net (for concepts that show unasked).

    Scripts by the authors differ. The first is followed: z_t from the student, not from the original; eta 1, which a
    later script calls 2 (it counts from eps*(c), and its target is the same); breaking off before the first step means
    pure noise. The prompts are the harness's sentences about the concept, where the authors take its name alone.
    """

    about = "steers the concept's prediction to the far side of the null prompt's; cross-attention; no images"
    source = "Gandikota et al., ICCV 2023, arXiv 2303.07345"
    fidelity = "published"
    multi = "alternate"  # as the authors' loop, which draws one prompt a step
    Config = EsdConfig
    config: EsdConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """Mean squared distance of the student's conditional from the negatively guided prediction of the teacher."""
        c, config = batch.prompt_embeds, self.config
        latents, timesteps = harness.sampled(c, "student", config.path_guidance, config.path_steps)
        target = erasure_target(harness, latents, timesteps, c, eta=config.eta)
        return F.mse_loss(harness.student(latents, timesteps, c), target)


class EsdU(Esd):
    __doc__ = Esd.__doc__
    about = "steers the concept's prediction to the far side of the null prompt's; not cross-attention; no images"
    Config = EsdUConfig
