"""Weights w(t) of a loss over timesteps, and ways to draw the timesteps.

Mutual information is an integral over the log-SNR l = log(abar_t / (1 - abar_t)) with a constant weight (Kong et al.,
ICLR 2024, arXiv 2310.07972). A mean over timesteps estimates this integral in two cases: if the timesteps are weighted
by |dl/dt|, or if they are drawn from a known density of l and weighted by the inverse of this density.
"""

from __future__ import annotations

import torch

from methods.base import Harness

WEIGHTINGS = ("uniform", "snr", "logistic")


def log_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The log-SNR l of every timestep.

    Args:
        alphas_cumprod: abar_t of the noise schedule, float (T,), in (0, 1).

    Returns float64 (T,). The values decrease with t.

    Example:
        >>> log_snr(torch.tensor([0.5]))
        tensor([0.], dtype=torch.float64)
    """
    return torch.logit(alphas_cumprod.double())


def log_snr_rate(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """|dl/dt| at every timestep by central differences, float64 (T,).

    In Stable Diffusion it is 0.17 at t = 5 and 0.0066 at t = 400. The argument is that of `log_snr`.
    """
    return torch.gradient(log_snr(alphas_cumprod))[0].abs()


def loss_weights(alphas_cumprod: torch.Tensor, weighting: str, low: int, high: int, clip: float = 0.05) -> torch.Tensor:
    """w(t) for every timestep, float32 (T,).

    The mean of w over low..high is 1, so that every weighting can use the same learning rate.

    Args:
        alphas_cumprod: abar_t of the noise schedule, float (T,), in (0, 1).
        weighting: "uniform" for w = 1, or "snr" for w proportional to |dl/dt|.
        low, high: first and last timestep that is used, both included.
        clip: upper limit of |dl/dt|, since |dl/dt| is singular at t -> 0. In Stable Diffusion |dl/dt| is 0.05 at
            t = 20.

    Raises ValueError for any other weighting.

    Example:
        >>> loss_weights(torch.linspace(0.9, 0.1, 10), "uniform", 0, 9)[:3]
        tensor([1., 1., 1.])
    """
    if weighting not in ("uniform", "snr"):
        raise ValueError(f"weighting {weighting!r} is no function of the timestep; these are: uniform, snr")
    rate = log_snr_rate(alphas_cumprod)
    w = rate.clamp(max=clip) if weighting == "snr" else torch.ones_like(rate)
    return (w / w[low : high + 1].mean()).float()


def logistic_timesteps(
    uniform: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    low: int,
    high: int,
    loc: float = 1.0,
    scale: float = 2.0,
    clip: float = 3.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps whose log-SNR has a logistic distribution, and their importance weights.

    Args:
        uniform: random numbers in [0, 1), float (N,). Each number is mapped to a log-SNR l by the inverse of the
            distribution function.
        alphas_cumprod: abar_t of the noise schedule, float (T,), in (0, 1).
        low, high: smallest and largest possible timestep, both included.
        loc, scale: location and scale of the logistic distribution of l.
        clip: l stays in loc - clip * scale .. loc + clip * scale.

    Returns the timesteps whose log-SNR is nearest to l, int64 (N,), and the weights, float32 (N,). The weights are
    proportional to 1 / (density of l), and their expected value is 1. This is importance sampling of the integral over
    l. It has less variance than uniform timesteps with weights.

    Raises ValueError if no log-SNR satisfies both limits.
    """
    levels = log_snr(alphas_cumprod)
    edges = torch.stack([levels[high].clamp(min=loc - clip * scale), levels[low].clamp(max=loc + clip * scale)])
    if edges[0] >= edges[1]:
        raise ValueError(f"timesteps {low}..{high} have no log-SNR within {loc} +- {clip * scale}")
    below, above = torch.sigmoid((edges - loc) / scale)
    u = below + uniform.double() * (above - below)
    sampled_levels = loc + scale * torch.logit(u)
    timesteps = (sampled_levels[:, None] - levels[low : high + 1]).abs().argmin(1) + low
    density = u * (1 - u) / scale / (above - below)
    return timesteps, (1 / (density * (edges[1] - edges[0]))).float()


def loss_weights_at(harness: Harness, timesteps: torch.Tensor, weighting: str, low: int, high: int) -> torch.Tensor:
    """`loss_weights` at the timesteps of a batch, int64 (B,). Returns float32 (B,) on the run's device."""
    weights = loss_weights(harness.alphas_cumprod, weighting, low, high)
    return harness.sent(weights)[timesteps]


def noised_with_weights(
    harness: Harness, latents: torch.Tensor, weighting: str, low: int, high: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw timesteps within low..high for a weighting, and add noise to clean latents at these timesteps.

    Args:
        harness: has the noise schedule and the random generator.
        latents: z_0, float32 (B, C, h, w).
        weighting: one of WEIGHTINGS.
        low, high: smallest and largest possible timestep, both included.

    Returns z_t, float32 (B, C, h, w), the timesteps t, int64 (B,), and the weights w(t), float32 (B,).

    Example:
        >>> z, t, w = noised_with_weights(harness, torch.zeros(2, 4, 16, 16), "logistic", 50, 950)
        >>> z.shape, t.shape, w.shape
        (torch.Size([2, 4, 16, 16]), torch.Size([2]), torch.Size([2]))
    """
    if weighting != "logistic":
        z, _, timesteps = harness.noised(latents, low, high)
        return z, timesteps, loss_weights_at(harness, timesteps, weighting, low, high)
    uniform = torch.rand(len(latents), generator=harness.generator)
    timesteps, w = logistic_timesteps(uniform, harness.alphas_cumprod, low, high)
    noise = torch.randn(latents.shape, generator=harness.generator)
    noise, timesteps, w = (harness.sent(each) for each in (noise, timesteps, w))
    return harness.noise_scheduler.add_noise(latents, noise, timesteps), timesteps, w


def predicted_x0(harness: Harness, z: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The clean latents that a noise prediction implies: x_0 = (z_t - sqrt(1 - abar_t) eps) / sqrt(abar_t).

    Args:
        z: z_t, float32 (B, C, h, w).
        timesteps: t, int64 (B,).
        noise: the predicted noise eps, float32, in the shape of `z`.

    Returns x_0, float32, in the shape of `z`.

    Example:
        >>> x0 = torch.ones(1, 4, 16, 16)
        >>> z, noise, t = harness.noised(x0)
        >>> torch.allclose(predicted_x0(harness, z, t, noise), x0, atol=1e-3)
        True
    """
    alphas = harness.sent(harness.alphas_cumprod)[timesteps].view(-1, 1, 1, 1)
    return (z - (1 - alphas).sqrt() * noise) / alphas.sqrt()
