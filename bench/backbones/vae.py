"""Encodes images as latents: the inverse of `bench.backbones.sampler.decode`."""

from __future__ import annotations

import torch

from bench.backbones import finite
from bench.backbones.pipeline import Backbone


@torch.no_grad()
def encode(backbone: Backbone, pictures: torch.Tensor, batch: int) -> torch.Tensor:
    """Latents of images: float32 (N, C, h, w) on the CPU, where h and w are H and W divided by the VAE's factor.

    The latents are the mean of the VAE's distribution, not a sample, times the scaling factor. They are training data,
    so they are always computed in float32.

    Args:
        backbone: the networks.
        pictures: uint8 (N, 3, H, W); H and W must be multiples of the VAE's factor.
        batch: images in one batch.

    Raises ValueError for another dtype or shape, and NonFiniteImage.
    """
    factor = backbone.pipeline.vae_scale_factor
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures are uint8 (N, 3, H, W); found {pictures.dtype} {tuple(pictures.shape)}")
    if pictures.shape[2] % factor or pictures.shape[3] % factor:
        raise ValueError(f"this VAE takes sides that are multiples of {factor}; found {tuple(pictures.shape[2:])}")
    parts: list[torch.Tensor] = []
    for some in pictures.split(batch):
        scaled = some.to(backbone.device).float() / 127.5 - 1
        mean = backbone.vae.encode(scaled, return_dict=False)[0].mean
        first = batch * len(parts)
        finite.require(mean, "the latents that the VAE encoded", [f"picture {first + i}" for i in range(len(some))])
        parts.append((mean * backbone.vae.config.scaling_factor).float().cpu())
    return torch.cat(parts)
