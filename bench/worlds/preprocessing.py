"""Pictures as a pretrained network wants them: timm's own evaluation transform, on batches of tensors."""

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
    """Float pictures in [0, 1], (B, 3, H, W) of any size, to normalised ones, (B, 3, h, w), on the same device.

    Resized (antialiased), cropped and normalised on tensors: batched and differentiable. Against the same transform
    on PIL pictures it lacks the rounding to bytes. The settings are a buffer too, so that the digest of a judge's
    state tells two judges apart that differ in nothing else.

    Args:
        config: timm's data config, of which KEYS are used: `input_size` (3, h, w), `interpolation`, `crop_pct`,
            `crop_mode` ("center", "squash" or "border"), `mean` and `std` of pictures in [0, 1].
    """

    settings: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        from timm.data import create_transform  # half a second; listing worlds needs none of it

        super().__init__()
        self.config = {key: _listed(config[key]) for key in KEYS}
        steps = create_transform(**{**self.config, "input_size": tuple(config["input_size"])}, is_training=False)
        self.resize, self.crop, _, self.normalise = steps.transforms
        if hasattr(self.crop, "fill"):
            self.crop.fill = 0  # a border of the mean colour, once that is subtracted
        text = json.dumps(self.config, sort_keys=True)
        self.register_buffer("settings", torch.tensor(list(text.encode()), dtype=torch.uint8))

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = self.resize(pictures).clamp(0, 1)  # bicubic interpolation overshoots; bytes could not
        return self.crop(self.normalise(pictures))


class Preprocessed(nn.Module):
    """A network of timm that is given float pictures in [0, 1], (B, 3, H, W) of any size."""

    def __init__(self, config: Mapping[str, Any], net: nn.Module) -> None:
        super().__init__()
        self.preprocessing, self.net = Preprocessing(config), net

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(self.preprocessing(pictures))


def _listed(value: Any) -> Any:
    return [float(v) if isinstance(v, float) else v for v in value] if isinstance(value, (tuple, list)) else value
