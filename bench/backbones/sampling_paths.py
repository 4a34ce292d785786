"""Sampling paths broken off half way: noisy latents as a network itself meets them, for methods that need no images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bench.core.guidance import Predict, conditions, guided

if TYPE_CHECKING:
    from diffusers import DDIMScheduler


def ddim(scheduler_config: Mapping[str, Any], steps: int) -> DDIMScheduler:
    """DDIM (Song et al., 2021) in `steps` steps with a backbone's betas. Raises ValueError if there are too many."""
    from diffusers import DDIMScheduler  # seconds to import; lists need none of it

    scheduler = DDIMScheduler.from_config(scheduler_config, clip_sample=False, timestep_spacing="leading")
    if steps < 1:
        raise ValueError(f"a sampling path needs at least 1 step, not {steps}")
    scheduler.set_timesteps(steps)
    return scheduler


def stops(scheduler: DDIMScheduler, low: int, high: int) -> list[tuple[int, int, int]]:
    """Where a path may be broken off so that its latents pass for z_t with t in low..high.

    Returns (steps taken, lowest t, highest t) for each. After k steps the latents stand at the scheduler's k-th
    timestep; their bin reaches from there up to, not including, the timestep before, and for k = 0, pure noise, up to
    the last of all.
    """
    stands = scheduler.timesteps.tolist()
    before = [scheduler.config.num_train_timesteps, *stands[:-1]]
    bins = ((k, max(low, t), min(high, above - 1)) for k, (t, above) in enumerate(zip(stands, before, strict=True)))
    found = [(k, first, last) for k, first, last in bins if first <= last]
    if not found:
        raise ValueError(f"no sampling path of {len(stands)} steps stops within timesteps {low}..{high}")
    return found


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
    """Latents after `steps` deterministic steps (eta = 0) from `noise`; 0 steps give `noise` back.

    Args:
        predict: (z_t, timesteps, embeddings) -> predicted noise, with one timestep for each example, int64 (B,).
        noise: standard normal, float32 (B, C, h, w), the shape of what is returned.
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
