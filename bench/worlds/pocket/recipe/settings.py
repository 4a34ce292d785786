"""All settings of the pocket world's training. `QUICK` trains narrow networks and runs each stage in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Fit:
    """Settings of one optimisation with AdamW.

    The learning rate rises linearly over `warmup` steps and stays constant until `decay_from`. Then it follows a cosine
    decay to 2 % of `lr`.
    """

    steps: int
    batch: int  # images of one step, over all processes
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 100
    decay_from: float = 0.5  # share of the steps after which the decay begins
    clip: float = 1.0
    ema: float = 0.0  # decay of the EMA; 0: without an EMA
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """Architecture, data and optimisation of each stage."""

    # images
    per_species: int = 1200
    photo_share: float = 0.4
    judge_per_species: int = 600
    held_out_per_species: int = 60  # for each style
    # vae: 64 x 64 x 3 -> 16 x 16 x 4
    vae_channels: tuple[int, ...] = (32, 64, 96)
    vae: Fit = field(default_factory=lambda: Fit(steps=2600, batch=64, lr=2e-3, decay_from=0.5))
    vae_whole_from: float = 0.8  # crops of 32 x 32 until this share of the steps, then a quarter as many whole images
    kl_weight: float = 1e-4
    # text encoder and U-Net, trained jointly
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4
    text_length: int = 24
    unet_channels: tuple[int, ...] = (48, 96, 144)
    unet_layers: int = 1
    unet: Fit = field(default_factory=lambda: Fit(steps=7000, batch=64, lr=1e-3, decay_from=0.6, ema=0.999))
    snr_gamma: float = 5.0
    # judges
    judge: Fit = field(default_factory=lambda: Fit(steps=1600, batch=64, lr=2e-3, weight_decay=0.05, decay_from=0.3))
    clip: Fit = field(default_factory=lambda: Fit(steps=1200, batch=96, lr=1e-3, weight_decay=0.05, decay_from=0.3))


def shrink(fit: Fit, steps: int) -> Fit:
    """`fit` with `steps` steps, with a batch of at most 16 images and with a warm-up of a tenth of the steps."""
    return replace(fit, steps=steps, batch=min(fit.batch, 16), warmup=max(1, steps // 10))


FULL = Recipe()
QUICK = replace(
    FULL,
    per_species=6,
    judge_per_species=6,
    held_out_per_species=1,
    vae_channels=(16, 24, 32),
    vae=shrink(FULL.vae, 20),
    unet_channels=(32, 48, 64),
    unet=shrink(FULL.unet, 20),
    judge=shrink(FULL.judge, 10),
    clip=shrink(FULL.clip, 10),
)
