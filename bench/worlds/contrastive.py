"""The CLIP model for CLIP score in worlds of photographs: one of open_clip's, by name."""

from __future__ import annotations

import torch

from bench.worlds.base import Clip
from bench.worlds.open_clip_models import create

USUAL = "ViT-B-32/laion2b_s34b_b79k"
NONE = "none"


def load(name: str | None, device: torch.device) -> Clip | None:
    """The CLIP model `name`, which is "MODEL/WEIGHTS" as open_clip names them; None loads `USUAL`.

    The model is in fp32, in eval mode and frozen, with its own preprocessing. Returns None for the name "none". Raises
    WorldUnavailable.
    """
    if name == NONE:
        return None
    model, tokenizer, preprocessing = create(name or USUAL)
    model = model.to(device)
    return Clip(model, tokenizer, preprocessing.to(device))
