"""Sampling paths that stop early: they give the noisy latents of a network's own sampling, without images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from bench.backbones import solvers
from bench.core import device
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


class Start(NamedTuple):
    """Where the paths of one batch begin, and when they stop.

    Args:
        noise: standard normal noise, float32 (B, C, h, w).
        prompt_embeds, null_embeds: (B, tokens, width).
        steps: number of steps of these paths.
    """

    noise: torch.Tensor
    prompt_embeds: torch.Tensor
    null_embeds: torch.Tensor
    steps: int


@torch.no_grad()
def follow(
    predict: Predict, scheduler: DDIMScheduler, starts: Sequence[Start], guidance_scale: float
) -> list[torch.Tensor]:
    """For each start, the latents after its number of deterministic steps (eta = 0); with 0 steps they are its noise.

    All paths are followed at once. A path that has stopped is no longer in the batch, so no forward is wasted.

    Args:
        predict: (z_t, timesteps, embeddings) -> predicted noise, with one timestep for each example, int64 (B,).
        scheduler: as `ddim` returns it, on the CPU.
        starts: at least one.
        guidance_scale: as in `bench.core.guidance`, which raises ValueError for a negative or non-finite one.

    Returns float32 (B, C, h, w) for each start, in the order of `starts`.
    """

    def predict_all(latents: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        return predict(latents, t.repeat(len(latents)), embeds)

    longest_first = sorted(range(len(starts)), key=lambda i: starts[i].steps, reverse=True)
    going = [starts[i] for i in longest_first]
    latents = torch.cat([one.noise for one in going])
    asked = conditions(
        guidance_scale, torch.cat([one.null_embeds for one in going]), torch.cat([one.prompt_embeds for one in going])
    )
    timesteps = device.sent(scheduler.timesteps, latents.device)
    for done, t in enumerate(scheduler.timesteps[: going[0].steps].tolist()):
        rows = sum(len(one.noise) for one in going if one.steps > done)
        predict_guided = guided(predict_all, torch.cat([embeds[:rows] for embeds in asked]), guidance_scale)
        noise_pred = predict_guided(latents[:rows], timesteps[done])
        moved = scheduler.step(noise_pred, t, latents[:rows], return_dict=False)[0]
        latents = torch.cat([moved, latents[rows:]])
    parts = latents.split([len(one.noise) for one in going])
    return [part for _, part in sorted(zip(longest_first, parts, strict=True), key=lambda pair: pair[0])]
