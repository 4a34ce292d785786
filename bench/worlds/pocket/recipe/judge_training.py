"""Stage `judges`: train the classifiers, the feature network and CLIP on images that the diffusion model never sees."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import elastic, gaussian_blur

from bench.worlds.pocket import clip
from bench.worlds.pocket.drawing.captions import EVALUATE, FORGET, TRAIN, caption
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.features import DAMAGE, FeatureNet
from bench.worlds.pocket.judges import JUDGES, Judge, classify
from bench.worlds.pocket.recipe import text
from bench.worlds.pocket.recipe.fit import autocast, device, fit, share_of
from bench.worlds.pocket.recipe.settings import Recipe


def batch_of(images: np.ndarray, rows: Tensor) -> Tensor:
    """The images `rows` of a uint8 array (N, 64, 64, 3) as floats in [0, 1], (B, 3, 64, 64), on the training device."""
    chosen, inverse = rows.unique(return_inverse=True)  # sorted rows: memory-mapped arrays are faster to read in order
    return torch.from_numpy(images[chosen.numpy()])[inverse].permute(0, 3, 1, 2).to(device()).float() / 255


def vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment `images`: light blur, brightness, shift and noise, each drawn at random.

    The augmentation makes a judge robust to the effects of the decoder on fine lines. The values stay in [0, 1].
    """
    n = len(images)
    u = torch.rand(n, 4, generator=generator).to(images.device)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, soft, (u[:, 0] * 0.9).view(n, 1, 1, 1))
    images = images * (0.88 + 0.24 * u[:, 1].view(n, 1, 1, 1))
    dx, dy = (torch.randint(-3, 4, (2,), generator=generator)).tolist()
    images = torch.roll(images, (dy, dx), (2, 3))
    grain = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + grain * (0.03 * u[:, 3].view(n, 1, 1, 1))).clamp(0, 1)


def damage(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Damage about half of the images at random: blur, noise, warp or fade.

    Returns the images and the kind of damage of each image, int64 (B,): an index into DAMAGE.
    """
    kinds = torch.where(
        torch.rand(len(images), generator=generator) < 0.5,
        torch.zeros(len(images), dtype=torch.long),
        torch.randint(1, len(DAMAGE), (len(images),), generator=generator),
    )
    strength = float(torch.rand(1, generator=generator))
    out = images.clone()
    for kind, name in enumerate(DAMAGE):
        rows = (kinds == kind).to(images.device)
        if name == "none" or not rows.any():
            continue
        some = images[rows]
        if name == "blur":
            some = gaussian_blur(some, [7, 7], [0.8 + 1.6 * strength])
        elif name == "noise":
            some = some + (0.05 + 0.15 * strength) * torch.randn(some.shape, generator=generator).to(some.device)
        elif name == "warp":
            coarse = torch.randn(1, 2, 6, 6, generator=generator).to(some.device)
            field = F.interpolate(coarse, some.shape[-2:], mode="bicubic", align_corners=True)
            some = elastic(some, field.permute(0, 2, 3, 1) * (0.04 + 0.06 * strength))
        else:
            some = torch.lerp(some, some.mean((2, 3), keepdim=True), 0.3 + 0.4 * strength)
        out[rows] = some.clamp(0, 1)
    return out, kinds.to(images.device)


def train_judge(
    name: str, recipe: Recipe, images: np.ndarray, labels: np.ndarray, checkpoint: Path
) -> tuple[Judge, dict[str, Any]]:
    """Train the classifier `name` of JUDGES. The loss is cross-entropy with label smoothing 0.05.

    Returns the classifier and the record of `fit`.
    """
    torch.manual_seed(recipe.judge.seed)
    spec = JUDGES[name]
    model = Judge(spec).to(device()).train()
    targets = torch.from_numpy(labels[:, 1 if spec.labels == STYLES else 0]).to(device())

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(images), (share_of(recipe.judge),), generator=generator)
        with autocast():
            logits = model(vary(batch_of(images, rows), generator))
        return F.cross_entropy(logits.float(), targets[rows.to(device())], label_smoothing=0.05)

    log = fit(name, model, loss, recipe.judge, checkpoint)
    return model.eval(), log


def train_features(
    recipe: Recipe, images: np.ndarray, labels: np.ndarray, checkpoint: Path
) -> tuple[FeatureNet, dict[str, Any]]:
    """Train the feature network. It predicts the species, style and damage of an image from one 64-dimensional vector.

    Returns the network and the record of `fit`.
    """
    torch.manual_seed(recipe.judge.seed + 1)
    model = FeatureNet().to(device()).train()
    targets = torch.from_numpy(labels).to(device())

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(images), (share_of(recipe.judge),), generator=generator)
        pictures, kinds = damage(batch_of(images, rows), generator)
        with autocast():
            species, style, harm = model.logits(pictures)
        truth = targets[rows.to(device())]
        parts = ((species, truth[:, 0]), (style, truth[:, 1]), (harm, kinds))
        return sum((F.cross_entropy(x.float(), y) for x, y in parts), torch.zeros((), device=device()))

    log = fit("features", model, loss, recipe.judge, checkpoint)
    return model.eval(), log


def train_clip(
    recipe: Recipe, images: np.ndarray, labels: np.ndarray, checkpoint: Path
) -> tuple[torch.nn.Module, Any, dict[str, Any]]:
    """Train the contrastive model of images and captions.

    The captions come from all three groups of templates, because the model judges prompts of any group. If several
    images of a batch show the same species in the same style, each of them matches the caption. They share the target
    probability equally. Returns the model, its tokenizer and the record of `fit`.
    """
    torch.manual_seed(recipe.clip.seed)
    tokenizer = text.build_tokenizer(recipe.text_length)
    model = clip.build(len(tokenizer)).to(device()).train()
    templates = (*TRAIN, *FORGET, *EVALUATE)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(images), (share_of(recipe.clip),), generator=generator)
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        chosen = labels[rows.numpy()]
        texts = [caption(rng.choice(templates), NAMES[k], STYLES[s]) for k, s in chosen]
        ids = text.tokenize(tokenizer, texts).to(device())
        with autocast():
            seen = model.encode_image(clip.normalise(vary(batch_of(images, rows), generator)), normalize=True)
            said = model.encode_text(ids, normalize=True)
        logits = model.logit_scale.exp().clamp(max=100) * seen.float() @ said.float().T
        key = torch.from_numpy(chosen[:, 0] * len(STYLES) + chosen[:, 1]).to(device())
        target = (key[:, None] == key[None]).float()
        target = target / target.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    log = fit("clip", model, loss, recipe.clip, checkpoint)
    return model.eval(), tokenizer, log


def accuracy_by_style(judge: Judge, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The accuracy of `judge` on the images of each style, 0 to 1."""
    guess = classify(judge, torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255).numpy()
    right = guess == labels[:, 1 if judge.labels == STYLES else 0]
    return {style: round(float(right[labels[:, 1] == i].mean()), 4) for i, style in enumerate(STYLES)}
