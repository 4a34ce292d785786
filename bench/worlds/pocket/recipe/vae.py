"""Stage `vae`: diffusers' AutoencoderKL, which encodes images of 64 x 64 x 3 as latents of 16 x 16 x 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from bench.worlds.pocket.drawing.pen import SIZE
from bench.worlds.pocket.recipe.fit import autocast, device, fit, rank_and_world, share_of
from bench.worlds.pocket.recipe.settings import Recipe

CROP = 32


def build(recipe: Recipe) -> AutoencoderKL:
    """The untrained autoencoder."""
    levels = len(recipe.vae_channels)
    return AutoencoderKL(
        sample_size=SIZE,
        block_out_channels=recipe.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """Convert images from uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def edges(x: Tensor) -> Tensor:
    """The horizontal and vertical differences of neighbouring pixels, as one flat tensor."""
    return torch.cat([(x[..., 1:] - x[..., :-1]).flatten(), (x[..., 1:, :] - x[..., :-1, :]).flatten()])


def train(recipe: Recipe, images: np.ndarray, checkpoint: Path) -> tuple[AutoencoderKL, dict[str, Any]]:
    """Train the autoencoder on `images`, uint8 (N, 64, 64, 3). Returns the model and the record of `fit`.

    After the training, `scaling_factor` in the config scales the latents to a standard deviation of 1. The loss is
    L1 + MSE + 0.5 L1 of the image gradients + `kl_weight` KL (a mean over the latent elements).
    """
    torch.manual_seed(recipe.vae.seed)
    model = build(recipe).to(device())
    batch = share_of(recipe.vae)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        whole = step >= recipe.vae_whole_from * recipe.vae.steps
        count = max(1, batch // 4) if whole else batch
        rows = torch.randint(len(images), (count,), generator=generator).sort().values.numpy()
        x = to_tensor(images[rows])
        if not whole:
            i, j = torch.randint(SIZE - CROP + 1, (2,), generator=generator).tolist()
            x = x[:, :, i : i + CROP, j : j + CROP]
        x = x.to(device())
        with autocast():
            posterior = model.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
            y = model.decode(posterior.mean + posterior.std * noise).sample
        y = y.float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * F.l1_loss(edges(y), edges(x)) + recipe.kl_weight * kl

    log = fit("vae", model, loss, recipe.vae, checkpoint)
    latents = encode(model, images[: min(len(images), 2048)])
    model.register_to_config(scaling_factor=round(float(1 / latents.std()), 4))
    return model.eval(), log


@torch.no_grad()
def encode(model: AutoencoderKL, images: np.ndarray, batch: int = 128) -> Tensor:
    """The unscaled posterior means of `images`, float32 (N, 4, 16, 16), on the CPU."""
    parts = []
    for i in range(0, len(images), batch):
        with autocast():
            parts.append(model.encode(to_tensor(np.array(images[i : i + batch])).to(device())).latent_dist.mean)
    return torch.cat([z.float().cpu() for z in parts])


def encode_shared(model: AutoencoderKL, images: np.ndarray) -> Tensor:
    """Like `encode`, but each process of a torchrun launch encodes a part of the images.

    Every process returns the latents of all images.
    """
    rank, world = rank_and_world()
    if world == 1:
        return encode(model, images)
    share = -(-len(images) // world)
    own = encode(model, images[rank * share : (rank + 1) * share])
    out = torch.zeros(world * share, *own.shape[1:])
    out[rank * share : rank * share + len(own)] = own
    out = out.to(device())
    dist.all_reduce(out)
    return out[: len(images)].cpu()


@torch.no_grad()
def psnr(model: AutoencoderKL, images: np.ndarray, batch: int = 128) -> float:
    """The mean PSNR (dB, peak 2) over images. The reconstructions are decoded from the posterior means."""
    values = []
    for i in range(0, len(images), batch):
        x = to_tensor(images[i : i + batch]).to(device())
        y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        values.append(10 * torch.log10(4 / (y - x).square().mean((1, 2, 3))))
    return float(torch.cat(values).mean())
