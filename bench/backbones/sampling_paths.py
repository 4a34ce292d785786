"""Sampling paths that stop early: they give the noisy latents of a network's own sampling, without images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bench.backbones import solvers
from bench.core.guidance import Predict, conditions, guided

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

    from bench.backbones.noise_schedule import NoiseSchedule

SOLVER, SPACING = "ddim", "leading"  # of every path, whatever solver the protocol samples images with


def ddim(schedule: NoiseSchedule, steps: int) -> DDIMScheduler:
    """DDIM (Song et al., 2021) in `steps` steps, for a model with this noise schedule.

    Raises ValueError if there are too many steps, or less than one.
    """
    return solvers.make(SOLVER, SPACING, schedule, steps)


def stops(scheduler: DDIMScheduler, low: int, high: int) -> list[tuple[int, int, int]]:
    """The numbers of steps after which the latents of a path can be used as z_t with a timestep t in low..high.

    Returns (k, lowest t, highest t) for each number of steps k. After k steps the latents are at the scheduler's k-th
    timestep. They can be used for t from this timestep up to, but not including, the timestep before it. For k = 0,
    which is pure noise, the range ends with the last training timestep. Raises ValueError if no k fits.
    """
    stands = scheduler.timesteps.tolist()
    before = [scheduler.config.num_train_timesteps, *stands[:-1]]
    bins = ((k, max(low, t), min(high, above - 1)) for k, (t, above) in enumerate(zip(stands, before, strict=True)))
    fitting = [(k, first, last) for k, first, last in bins if first <= last]
    if not fitting:
        raise ValueError(f"no sampling path of {len(stands)} steps stops within timesteps {low}..{high}")
    return fitting


@torch.no_grad()
def follow(
    predict: Predict,
    scheduler: DDIMScheduler,
    noise: torch.Tensor,
    prompt_embeds: torch.Tensor,
    null_embeds: torch.Tensor,
    guidance_scale: float,
    steps: int,
) -> torch.Tensor:
    """Latents after `steps` deterministic steps (eta = 0) from `noise`; with 0 steps the result is `noise`.

    Args:
        predict: (z_t, timesteps, embeddings) -> predicted noise, with one timestep for each example, int64 (B,).
        noise: standard normal noise, float32 (B, C, h, w); the result has the same shape.
        prompt_embeds, null_embeds: (B, tokens, width).
        guidance_scale: as in `bench.core.guidance`, which raises ValueError for a negative or non-finite one.
    """

    def predict_all(latents: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        return predict(latents, t.to(latents.device).repeat(len(latents)), embeds)

    embeds = torch.cat(conditions(guidance_scale, null_embeds, prompt_embeds))
    predict_guided, latents = guided(predict_all, embeds, guidance_scale), noise
    for t in scheduler.timesteps[:steps]:
        latents = scheduler.step(predict_guided(latents, t), int(t), latents, return_dict=False)[0]
    return latents
