"""Which noise levels a loss looks at, and how much each counts.

Mutual information is an integral over the log-SNR l = log(abar_t / (1 - abar_t)) with a flat weight (Kong et al., ICLR
2024, arXiv 2310.07972); a mean over timesteps stands for it once t is weighted by |dl/dt|, or drawn flat in l.
"""

from __future__ import annotations

import torch

from bench.training.harness import Harness

WEIGHTINGS = ("uniform", "snr", "logistic")


def log_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """l of every timestep: float64 (T,), falling."""
    return torch.logit(alphas_cumprod.double())


def level_density(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """|dl/dt| by central differences: float64 (T,). On Stable Diffusion's schedule 0.17 at t = 5, 0.0066 at t = 400."""
    return torch.gradient(log_snr(alphas_cumprod))[0].abs()


def weights(alphas_cumprod: torch.Tensor, weighting: str, low: int, high: int, clip: float = 0.05) -> torch.Tensor:
    """w(t) of "uniform" (1) or "snr" (|dl/dt|, at most `clip`): float32 (T,) of mean 1 over low..high.

    `clip` tames the singularity at t -> 0; 0.05 is |dl/dt| at t = 20 on Stable Diffusion's schedule. The mean of 1
    leaves the learning rate its meaning. Raises ValueError for another weighting.
    """
    if weighting not in ("uniform", "snr"):
        raise ValueError(f"weighting {weighting!r} is no function of the timestep; these are: uniform, snr")
    density = level_density(alphas_cumprod)
    w = density.clamp(max=clip) if weighting == "snr" else torch.ones_like(density)
    return (w / w[low : high + 1].mean()).float()


def logistic_levels(
    uniform: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    low: int,
    high: int,
    loc: float = 1.0,
    scale: float = 2.0,
    clip: float = 3.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps whose l is logistic(loc, scale), cut off `clip` scales from `loc` and at low..high; and their weights.

    Args:
        uniform: (N,) in [0, 1), mapped through the inverse of the distribution function.

    Returns the nearest timesteps, int64 (N,), and 1 / (density of l), of mean 1, float32 (N,): importance sampling of
    an integral flat in l, with less variance than weights on a uniform t. Raises ValueError if the cuts leave nothing.
    """
    levels = log_snr(alphas_cumprod)
    edges = torch.stack([levels[high].clamp(min=loc - clip * scale), levels[low].clamp(max=loc + clip * scale)])
    if edges[0] >= edges[1]:
        raise ValueError(f"timesteps {low}..{high} have no log-SNR within {loc} +- {clip * scale}")
    below, above = torch.sigmoid((edges - loc) / scale)
    u = below + uniform.double() * (above - below)
    drawn = loc + scale * torch.logit(u)
    timesteps = (drawn[:, None] - levels[low : high + 1]).abs().argmin(1) + low
    density = u * (1 - u) / scale / (above - below)
    return timesteps, (1 / (density * (edges[1] - edges[0]))).float()


def weights_at(harness: Harness, timesteps: torch.Tensor, weighting: str, low: int, high: int) -> torch.Tensor:
    """`weights` of a batch's timesteps, int64 (B,): float32 (B,) on their device."""
    alphas = harness.noise_scheduler.alphas_cumprod.cpu()  # diffusers leaves it on the device it was last used on
    return weights(alphas, weighting, low, high).to(timesteps.device)[timesteps]


def noised(
    harness: Harness, latents: torch.Tensor, weighting: str, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Diffuse clean latents to levels drawn under a weighting, one of WEIGHTINGS, within timesteps low..high.

    Returns z_t, float32 (B, C, h, w), the timesteps, int64 (B,), and w, float32 (B,).
    """
    if weighting != "logistic":
        z, _, timesteps = harness.noised(latents, low, high)
        return z, timesteps, weights_at(harness, timesteps, weighting, low, high)
    alphas = harness.noise_scheduler.alphas_cumprod.cpu()
    timesteps, w = logistic_levels(torch.rand(len(latents), generator=harness.generator), alphas, low, high)
    noise = torch.randn(latents.shape, generator=harness.generator).to(latents.device)
    timesteps = timesteps.to(latents.device)
    return harness.noise_scheduler.add_noise(latents, noise, timesteps), timesteps, w.to(latents.device)


def predicted_clean(harness: Harness, z: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """x0 = (z_t - sqrt(1 - abar_t) noise) / sqrt(abar_t), the shape of `z`."""
    alphas = harness.noise_scheduler.alphas_cumprod.to(z.device)[timesteps].view(-1, 1, 1, 1)
    return (z - (1 - alphas).sqrt() * noise) / alphas.sqrt()
