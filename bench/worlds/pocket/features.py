"""The feature extractor of FID and KID for 64 x 64 images, registered with torch-fidelity as "pocket-64".

Inception has 2048 dimensions, and a covariance of that size needs about ten thousand images. These 64 dimensions need
about a thousand images. The network was trained to recognise the species, the style and the damage (blur, noise,
warping, fading) of rendered images, so a damaged image is far from an intact image of the same species.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torch_fidelity
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.weights import WEIGHTS, load_into, verify

FEATURES = "pocket-64"
DIMENSIONS = 64
DAMAGE = ("none", "blur", "noise", "warp", "fade")
PART = "judges/features.safetensors"


class FeatureNet(nn.Module):
    """Network from images (B, 3, 64, 64), float in [0, 1], to features (B, 64). It has three heads for training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("resnet10t", num_classes=0, channels=(32, 64, 128, DIMENSIONS))
        self.heads = nn.ModuleList(nn.Linear(DIMENSIONS, n) for n in (len(NAMES), len(STYLES), len(DAMAGE)))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images * 2 - 1)

    def logits(self, images: Tensor) -> list[Tensor]:
        """The logits of species, style and damage."""
        features = self(images)
        return [head(features) for head in self.heads]


def load_features(folder: Path = WEIGHTS) -> FeatureNet:
    """The trained network in fp32, in eval mode and frozen. Raises WeightsError."""
    verify(folder, PART)
    net = FeatureNet()
    load_into(net, folder / PART)
    return net.requires_grad_(False)


class PocketFeatures(FeatureExtractorBase):
    """torch-fidelity's interface: uint8 (B, 3, 64, 64) -> tuple of the requested features. Only "64" exists."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **_: Any
    ) -> None:
        super().__init__(name, features_list)
        self.net = load_features(Path(feature_extractor_weights_path) if feature_extractor_weights_path else WEIGHTS)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("64",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "64"

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return (torch.rand([1, 3, 64, 64]) * 255).to(torch.uint8)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        return (self.net(input.float() / 255),)


if FEATURES not in torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY:
    torch_fidelity.register_feature_extractor(FEATURES, PocketFeatures)
