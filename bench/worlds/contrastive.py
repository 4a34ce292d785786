"""The CLIP model behind CLIP score in worlds of photographs: one of open_clip's, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.worlds.base import Clip
from bench.worlds.open_clip_models import create

USUAL = "ViT-B-32/laion2b_s34b_b79k"
NONE = "none"


def loader(name: str | None) -> Callable[[torch.device], Clip] | None:
    """device -> the model called `name`, "MODEL/WEIGHTS" as open_clip has them; the usual one for None.

    None for "none". The loader raises WorldUnavailable.
    """
    return None if name == NONE else lambda device: load(name or USUAL, device)


def load(name: str, device: torch.device) -> Clip:
    """The model, fp32, in eval mode, frozen, given pictures as its own preprocessing makes them."""
    model, tokenizer, preprocessing = create(name)
    model = model.to(device)
    return Clip(model, tokenizer, preprocessing.to(device))
