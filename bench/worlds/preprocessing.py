"""Preprocessing of images for a pretrained network: timm's transform for evaluation, on batches of tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "89a5c92b4772d7985f7dcee1aa869f7b31449ce6885854a39848d2d78fb62312"

KEYS = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


class Preprocessing(nn.Module):
    """Preprocess float images in [0, 1], (B, 3, H, W) of any size, to normalised images, (B, 3, h, w).

    The images are resized (with antialiasing), cropped and normalised as tensors, on their device. So the operation is
    batched and differentiable. timm's transform for PIL images also rounds to bytes; this class does not round. The
    module has the settings as a buffer, so that two judges that differ only in their settings have different digests.

    Args:
        config: timm's data config. The class uses the entries KEYS: `input_size` (3, h, w), `interpolation`,
            `crop_pct`, `crop_mode` ("center", "squash" or "border"), and `mean` and `std` of images in [0, 1].
    """

    settings: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        from timm.data import create_transform  # the import takes half a second; listing worlds doesn't need it

        super().__init__()
        self.config = {key: _listed(config[key]) for key in KEYS}
        steps = create_transform(**{**self.config, "input_size": tuple(config["input_size"])}, is_training=False)
        self.resize, self.crop, _, self.normalise = steps.transforms
        if hasattr(self.crop, "fill"):
            self.crop.fill = 0  # after normalisation 0 is the mean colour, so a border has this colour
        text = json.dumps(self.config, sort_keys=True)
        self.register_buffer("settings", torch.tensor(list(text.encode()), dtype=torch.uint8))

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = self.resize(pictures).clamp(0, 1)  # bicubic interpolation can leave [0, 1]; bytes can't
        return self.crop(self.normalise(pictures))


class Preprocessed(nn.Module):
    """A timm network with its preprocessing. Its input is float images in [0, 1], (B, 3, H, W) of any size."""

    def __init__(self, config: Mapping[str, Any], net: nn.Module) -> None:
        super().__init__()
        self.preprocessing, self.net = Preprocessing(config), net

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(self.preprocessing(pictures))


def _listed(value: Any) -> Any:
    return [float(v) if isinstance(v, float) else v for v in value] if isinstance(value, (tuple, list)) else value
