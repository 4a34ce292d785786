"""A small open_clip model for the CLIP score. It was trained separately from the pipeline's text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from bench.worlds.pocket.drawing.pen import SIZE
from bench.worlds.pocket.weights import WEIGHTS, verify

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "317f0b61ea4537b288a8ebd5683f1e3bbfa65fd3436bd628d5929c4a75f13b47"

CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 0, "width": 96, "heads": 3, "layers": 2, "hf_tokenizer_name": "."},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def build(vocabulary: int) -> open_clip.CLIP:
    """The untrained model for a tokenizer of `vocabulary` entries."""
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": vocabulary}}
    text = {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"}
    return open_clip.CLIP(config["embed_dim"], config["vision_cfg"], text)


def load_clip(device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> tuple[nn.Module, Any]:
    """(model, tokenizer) through open_clip's own `local-dir:` loader. Raises WeightsError."""
    verify(folder, "clip")
    name = f"local-dir:{folder / 'clip'}"
    model = open_clip.create_model(name, device=device).float().eval().requires_grad_(False)
    return model, open_clip.get_tokenizer(name)


def normalise(images: Tensor) -> Tensor:
    """Normalised images for the image tower, from float images in [0, 1]."""
    return images * 2 - 1
