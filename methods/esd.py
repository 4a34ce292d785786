"""ESD: erase a concept by steering its prediction away from the concept, on the student's own sampling paths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from methods.base import Batch, Harness, Method, MethodConfig, added, require_at_least, require_known, require_scale


@dataclass(frozen=True)
class EsdConfig(MethodConfig):
    """Settings. The defaults are those of the authors' first release.

    Args:
        eta: the paper's negative guidance scale. 0 stops at the null prompt's prediction.
        paths: whose sampling paths z_t comes from, "student" as in the first release, or "teacher", the original, as
            in the authors' present script.
        path_guidance: classifier-free guidance scale of the sampling paths, at least 0.
        path_steps: DDIM steps of a whole sampling path.
        path_batch: batches whose paths are drawn at once, at least 1. More than 1 is not the published method:
            see docs/methods.md.
    """

    lr: float = 1e-5
    epochs: int | None = None
    steps: int | None = 1000
    batch_size: int = 1
    parameters: str = "attn2"
    eta: float = 1.0
    path_guidance: float = 3.0
    path_steps: int = 50
    path_batch: int = added(1)
    paths: str = added("student")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("paths", self.paths, ("student", "teacher"))
        require_scale("path_guidance", self.path_guidance)
        require_at_least(self, 1, "path_batch")


@dataclass(frozen=True)
class EsdUConfig(EsdConfig):
    """Settings of ESD-u: those of ESD-x, but all weights except cross-attention train."""

    parameters: str = "not-attn2"


@dataclass(frozen=True)
class EsdPresentConfig(EsdConfig):
    """Settings of the authors' present script: shorter, with a larger learning rate, and paths of the original."""

    lr: float = 5e-5
    steps: int | None = 200
    paths: str = "teacher"


class Esd(Method):
    """L = || eps_theta(z_t, c) - sg[eps*(z_t, null) - eta (eps*(z_t, c) - eps*(z_t, null))] ||^2.

    eps_theta is the student, eps* the frozen original, sg the stop-gradient. z_t comes from the student's own sampling
    path for c under guidance, stopped at a random step, and t is uniform in the bin of that step. No image is used.
    ESD-x trains cross-attention, for concepts that prompts name. ESD-u trains the rest of the U-Net, for concepts that
    appear without being named.

    The authors' scripts differ. This follows the first one: z_t comes from the student. In the present one it comes
    from the original (`paths=teacher`, the row `esd-x-present`), which is gentler. eta = 1 here is what the present one
    calls 2: it counts from eps*(z_t, c), and its target is the same. A path that stops before its first step is pure
    noise. The prompts are the harness's sentences about the concept, where the authors use only its name.
    """

    about = "steers the concept's prediction to the far side of the null prompt's; cross-attention; no images"
    source = "Gandikota et al., ICCV 2023, arXiv 2303.07345"
    fidelity = "published"
    multi = "alternate"  # as in the authors' loop, which draws one prompt a step
    Config = EsdConfig
    config: EsdConfig

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss of Gandikota et al., 2023, on the prompts of the batch."""
        c, null, config = batch.prompt_embeds, harness.null_embeds(len(batch)), self.config
        # z_t: a partial sampling path for c, the student's unless `paths` is "teacher"
        z, t = harness.sampled_ahead(batch, config.paths, config.path_guidance, config.path_steps, config.path_batch)
        # eps*(z_t, null) and eps*(z_t, c); eta = 0 needs only the first
        eps_null = harness.teacher(z, t, null)
        eps_c = harness.teacher(z, t, c) if config.eta else eps_null
        # eps*(z_t, null) - eta [eps*(z_t, c) - eps*(z_t, null)]: negative guidance
        target = eps_null - config.eta * (eps_c - eps_null)
        # || eps_theta(z_t, c) - target ||^2
        return F.mse_loss(harness.student(z, t, c), target)


class EsdU(Esd):
    __doc__ = Esd.__doc__
    about = "steers the concept's prediction to the far side of the null prompt's; not cross-attention; no images"
    Config = EsdUConfig


class EsdPresent(Esd):
    __doc__ = Esd.__doc__
    about = "esd-x with the settings of its authors' present script: z_t comes from the original's sampling paths"
    source = "github.com/rohitgandikota/erasing, esd_sd.py"
    Config = EsdPresentConfig
