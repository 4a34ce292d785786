"""The judges: timm classifiers that predict the species or the style of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.weights import WEIGHTS, load_into, verify

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "6cc99172c1c754dfd6e89df11a24d1c0d56b49f9db3395ef6e654dcb05374de1"


@dataclass(frozen=True)
class JudgeSpec:
    """A timm architecture, its options and its labels."""

    labels: tuple[str, ...]
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)


JUDGES = {
    # two architectures that share nothing: a verdict on species can be checked against the second
    "species": JudgeSpec(NAMES, "resnet10t", {"channels": (32, 64, 128, 256)}),
    "species_b": JudgeSpec(
        NAMES, "convnext_atto", {"depths": (1, 1, 3, 1), "dims": (32, 64, 128, 224), "patch_size": 2, "conv_mlp": True}
    ),
    "style": JudgeSpec(STYLES, "resnet10t", {"channels": (16, 32, 64, 128)}),
}


class Judge(nn.Module):
    """Network from images (B, 3, 64, 64), float in [0, 1], to logits (B, number of labels)."""

    def __init__(self, spec: JudgeSpec) -> None:
        super().__init__()
        self.labels = spec.labels
        self.net = timm.create_model(spec.architecture, num_classes=len(spec.labels), **spec.options)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images * 2 - 1)


def load_judge(name: str, device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> Judge:
    """The trained judge `name`, one of JUDGES, in fp32, in eval mode and frozen.

    Raises ValueError for an unknown name, and WeightsError for a missing or damaged file.
    """
    if name not in JUDGES:
        raise ValueError(f"unknown judge {name!r}; known: {', '.join(JUDGES)}")
    part = f"judges/{name}.safetensors"
    verify(folder, part)
    judge = Judge(JUDGES[name])
    load_into(judge, folder / part)
    return judge.requires_grad_(False).to(device)


@torch.no_grad()
def classify(judge: nn.Module, images: Tensor, batch: int = 256) -> Tensor:
    """The index of the largest logit for each image, int64 (N,)."""
    device = next(judge.parameters()).device
    return torch.cat([judge(images[i : i + batch].to(device)).argmax(1).cpu() for i in range(0, len(images), batch)])
