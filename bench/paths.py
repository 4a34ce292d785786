"""Sampling paths broken off half way: noisy latents as a network itself meets them, for methods that need no images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # z_t, timesteps, embeddings -> noise


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
        noise: standard normal, float32 (B, C, h, w), the shape of what is returned.
        prompt_embeds, null_embeds: (B, tokens, width).
        guidance_scale: s in eps(null) + s * (eps(c) - eps(null)); both in one call of `predict`, unless s is 1.
    """
    guided = guidance_scale != 1
    embeds = torch.cat([null_embeds, prompt_embeds]) if guided else prompt_embeds
    latents = noise
    for t in scheduler.timesteps[:steps].tolist():
        inputs = torch.cat([latents] * 2) if guided else latents
        noise_pred = predict(inputs, torch.full((len(inputs),), t, device=inputs.device), embeds)
        if guided:
            noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
            noise_pred = noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)
        latents = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
    return latents
