"""The CLIP model for CLIP score in worlds of photographs: an open_clip model, loaded by name."""

from __future__ import annotations

import torch

from bench.worlds.base import Clip
from bench.worlds.open_clip_models import create

USUAL = "ViT-B-32/laion2b_s34b_b79k"
NONE = "none"


def load(name: str | None, device: torch.device) -> Clip | None:
    """Load the CLIP model `name`, with its tokenizer and preprocessing. The model is in fp32, in eval mode and frozen.

    Args:
        name: "MODEL/WEIGHTS" in open_clip's names, see `open_clip_models.create`. None loads `USUAL`.
        device: the device of the model and its preprocessing.

    Returns None for the name "none". Raises WorldUnavailable like `open_clip_models.create`.
    """
    if name == NONE:
        return None
    model, tokenizer, preprocessing = create(name or USUAL)
    model = model.to(device)
    return Clip(model, tokenizer, preprocessing.to(device))
