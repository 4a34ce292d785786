"""Samples images from prompts in batches.

The initial noise of an image depends only on (seed, prompt, index), or on a seed that a protocol prescribes for the
image. The noise is generated on the CPU. So it is the same for every method, device and batch size, and the images of
two models can be compared in pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bench.backbones import finite, solvers
from bench.backbones.frozen import Frozen
from bench.backbones.pipeline import Backbone
from bench.core import device
from bench.core.config import Protocol

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

PIXELS = 64 * 128 * 128  # number of pixels that are decoded in one batch: four images of 512 x 512


@dataclass(frozen=True)
class ImageSpec:
    """One image to sample.

    Args:
        prompt: the prompt.
        index: index of the image among the images of the prompt, from 0.
        seed: seed of the initial noise for a CPU generator, if a protocol prescribes it. None: the noise depends on the
            seed of `sample`, on the prompt and on the index.
    """

    prompt: str
    index: int
    seed: int | None = None


def image_specs(prompts: Sequence[str], count: int, seeds: Sequence[int] = ()) -> tuple[ImageSpec, ...]:
    """`count` specs, spread evenly over `prompts`. If `seeds` are given, image i of a prompt has seed i.

    Raises ValueError if a prompt has more images than there are seeds.
    """
    each = math.ceil(count / len(prompts))
    if seeds and each > len(seeds):
        raise ValueError(f"{count} images of {len(prompts)} prompts take {each} noise seeds; there are {len(seeds)}")
    places = [(prompts[i % len(prompts)], i // len(prompts)) for i in range(count)]
    return tuple(ImageSpec(prompt, index, seeds[index] if seeds else None) for prompt, index in places)


def seed_of(*parts: str | int) -> int:
    """A seed in [0, 2^63) that depends only on `parts` and is the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def initial_latents(shape: tuple[int, int, int], seed: int, batch: Sequence[ImageSpec]) -> torch.Tensor:
    """Standard normal noise for each spec, float32 (len(batch), *shape), on the CPU."""
    seeds = [seed_of(seed, spec.prompt, spec.index) if spec.seed is None else spec.seed for spec in batch]
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(own)) for own in seeds])


def make_scheduler(backbone: Backbone, protocol: Protocol) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """The protocol's solver with the backbone's noise schedule. Raises ValueError for too many steps."""
    steps = protocol.num_inference_steps
    return solvers.make(protocol.scheduler, protocol.spacing, backbone.noise_schedule, steps)


@torch.inference_mode()
def denoise(backbone: Backbone, prompts: Sequence[str], latents: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """Latents of `prompts` from their initial noise: float32, same shape as `latents`, (B, C, h, w).

    The predictions are combined by `backbone.guidance`, usually classifier-free guidance. Raises NonFiniteImage.
    """
    predict = backbone.frozen(backbone.unet)
    scheduler, scale = make_scheduler(backbone, protocol), protocol.guidance_scale
    # the solver gets numbers: with a timestep on CUDA it would wait for the device in each step
    timesteps = device.sent(scheduler.timesteps, backbone.device)
    predict_step = backbone.guidance.start(prompts, predict, backbone.embed, scale, timesteps)
    latents = device.sent(latents, backbone.device) * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps.tolist()):
        noise_pred = predict_step(scheduler.scale_model_input(latents, t), timesteps[step], step)
        latents = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
    finite.require(latents, "the sampled latents", prompts)
    return latents


@torch.inference_mode()
def decode(backbone: Backbone, latents: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """Images of final latents: uint8 (B, 3, H, W) on the CPU, rounded like the image processor of diffusers.

    Images are decoded in batches of at most PIXELS pixels, because decoding needs more memory than other steps. Raises
    NonFiniteImage, which names one of the B `prompts`, because a cast to uint8 would turn NaN into black.
    """
    pixels = latents.shape[-2] * latents.shape[-1] * backbone.pipeline.vae_scale_factor**2
    at_once = max(1, PIXELS // pixels)
    starts, vae = range(0, len(latents), at_once), backbone.frozen(backbone.vae)
    return torch.cat([_decode(backbone, vae, latents[i : i + at_once], prompts[i : i + at_once]) for i in starts])


def _decode(backbone: Backbone, vae: Frozen, latents: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    with vae.running():
        scaled = vae.input(latents / backbone.vae.config.scaling_factor)
        images = backbone.vae.decode(scaled, return_dict=False)[0]
    finite.require(images, "the pixels that the VAE decoded", prompts)
    return ((images.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def sample(
    backbone: Backbone,
    wanted: Sequence[ImageSpec],
    protocol: Protocol,
    seed: int,
    batch_size: int,
    as_images: bool = True,
    advance: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """Take every spec with the backbone's present weights.

    Returns uint8 images (N, 3, H, W), or with `as_images=False` the final latents, float32 (N, C, h, w) on the CPU.
    `advance` is told the number of images after each batch.
    """
    parts = []
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        prompts = [spec.prompt for spec in batch]
        latents = denoise(backbone, prompts, initial_latents(backbone.latent_shape, seed, batch), protocol)
        parts.append(decode(backbone, latents, prompts) if as_images else latents.cpu())
        advance(len(batch))
    return torch.cat(parts)
