"""A look into the model itself: how differently it predicts noise with and without the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench import machine
from bench.backbone import Backbone
from bench.sampler import Shot, seed_of


def timesteps(backbone: Backbone, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """About `count` timesteps whose log-SNRs lie evenly over the backbone's whole range, and these log-SNRs.

    int64 (T,) rising, and float64 (T,) falling: log(alpha_bar / (1 - alpha_bar)). Where the training schedule is
    coarser than the grid, fewer timesteps come back.
    """
    from diffusers import DDPMScheduler  # seconds to import; lists need none of it

    alphas = DDPMScheduler.from_config(backbone.pipeline.scheduler.config).alphas_cumprod.double()
    snr = torch.log(alphas / (1 - alphas))
    grid = torch.linspace(float(snr[0]), float(snr[-1]), count, dtype=torch.float64)
    nearest = (snr.unsqueeze(0) - grid.unsqueeze(1)).abs().argmin(1).unique()
    return nearest, snr[nearest]


@torch.inference_mode()
@machine.exact()
def gaps(
    backbone: Backbone, wanted: Sequence[Shot], latents: torch.Tensor, seed: int, count: int, batch_size: int
) -> dict[str, torch.Tensor]:
    """||eps(x_t, c) - eps(x_t, null)||^2 of the present weights at `timesteps`, for each shot and its final latents.

    Returns "gaps", float64 (N, T), and "logsnr", float64 (T,). x_t is the latents under noise that follows from (seed,
    prompt, index, t) alone: the same for every model, whatever the batch.
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
    times, logsnr = timesteps(backbone, count)
    jobs = [(i, int(t)) for i in range(len(wanted)) for t in times]
    found = []
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        clean = latents[[i for i, _ in batch]].float()
        noise = torch.stack([_noise(clean.shape[1:], seed, wanted[i], t) for i, t in batch])
        t = torch.tensor([t for _, t in batch])
        noised = scheduler.add_noise(clean, noise, t).to(backbone.device)
        embeds = backbone.embed([wanted[i].prompt for i, _ in batch] + [""] * len(batch))
        # in float32 whatever the run's precision: of the small difference, bfloat16 would leave its own rounding
        predicted = backbone.unet(
            torch.cat([noised] * 2), torch.cat([t] * 2).to(backbone.device), embeds, return_dict=False
        )[0]
        conditional, unconditional = predicted.double().chunk(2)
        found.append((conditional - unconditional).flatten(1).square().sum(1).cpu())
    return {"gaps": torch.cat(found).view(len(wanted), len(times)), "logsnr": logsnr}


def _noise(shape: torch.Size, seed: int, shot: Shot, t: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed_of("probe", seed, shot.prompt, shot.index, t))
    return torch.randn(shape, generator=generator)
