"""Stage `unet`: train the text encoder and the U-Net jointly. They predict noise in the autoencoder's latent space."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from bench.worlds.pocket.drawing.captions import training_caption
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.recipe import text
from bench.worlds.pocket.recipe.fit import autocast, device, fit, share_of
from bench.worlds.pocket.recipe.settings import Recipe

# Stable Diffusion's noise schedule
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}


def build_unet(recipe: Recipe) -> UNet2DConditionModel:
    """The untrained U-Net. Its blocks have Stable Diffusion's names, so methods find layers such as `attn2.to_k`."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=recipe.unet_channels,
        layers_per_block=recipe.unet_layers,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=recipe.text_width,
        # diffusers reads this as the number of heads. A head has 32 channels or a few more.
        attention_head_dim=tuple(max(1, c // 48) if c % 32 else c // 32 for c in recipe.unet_channels),
        norm_num_groups=16,
    )


class Denoiser(nn.Module):
    """The text encoder and the U-Net as one module, so that they share an optimiser, a checkpoint and an EMA."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, noisy: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """The predicted noise (B, 4, 16, 16) for noisy latents, timesteps int64 (B,) and token ids (B, L)."""
        states = self.text_encoder(input_ids).last_hidden_state
        return self.unet(noisy, timesteps, states).sample


def train(
    recipe: Recipe, vae: AutoencoderKL, latents: Tensor, labels: np.ndarray, checkpoint: Path
) -> tuple[Denoiser, CLIPTokenizer, dict[str, Any]]:
    """Train on the unscaled `latents` (N, 4, 16, 16) of images. `labels` (N, 2) holds their species and style indices.

    The loss is the MSE of the predicted noise, weighted by min(SNR, gamma)/SNR (Hang et al. 2023, eq. 5). The timesteps
    are stratified over the batch. Returns the model, its tokenizer and the record of `fit`.
    """
    torch.manual_seed(recipe.unet.seed)
    tokenizer = text.build_tokenizer(recipe.text_length)
    model = Denoiser(text.build_encoder(recipe, tokenizer), build_unet(recipe)).to(device())
    if device().type == "cpu":  # the backward pass of the fused kernel is slow on small maps
        model.unet.set_attn_processor(AttnProcessor())
    scheduler = DDIMScheduler(**SCHEDULE)
    alphas_cumprod = scheduler.alphas_cumprod.to(device())
    n = share_of(recipe.unet)
    scaled = (latents * vae.config.scaling_factor).to(device())

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(scaled), (n,), generator=generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        rng = random.Random(seed)
        captions = [training_caption(NAMES[k], STYLES[s], rng) for k, s in labels[rows.numpy()]]
        ids = text.tokenize(tokenizer, captions).to(device())
        clean = scaled[rows.to(device())]
        noise = torch.randn(clean.shape, generator=generator).to(device())
        strata = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        timesteps = (strata * 1000).long().clamp(max=999).to(device())
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with autocast():
            predicted = model(noisy, timesteps, ids)
        snr = alphas_cumprod[timesteps] / (1 - alphas_cumprod[timesteps])
        weight = snr.clamp(max=recipe.snr_gamma) / snr
        return (weight * (predicted.float() - noise).square().mean((1, 2, 3))).mean()

    log = fit("unet", model, loss, recipe.unet, checkpoint)
    return model.eval(), tokenizer, log


def pipeline(model: Denoiser, tokenizer: CLIPTokenizer, vae: AutoencoderKL) -> StableDiffusionPipeline:
    """The trained parts as a diffusers pipeline. Its default sampler is DPM-Solver++."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
