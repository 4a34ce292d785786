"""open_clip's models by name, with their own tokenizer and preprocessing; and what to say where one can't be had."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from typing import Any

from bench.worlds.base import WorldUnavailable
from bench.worlds.preprocessing import Preprocessing

CROP_MODES = {"shortest": "center", "squash": "squash"}  # open_clip's words for timm's
ELSEWHERE = ("hf-hub:", "local-dir:")  # open_clip's own prefixes: weights and architecture together


def create(name: str) -> tuple[Any, Any, Preprocessing]:
    """The model called `name`, fp32, in eval mode, frozen; its tokenizer; what its image tower wants done to pictures.

    Args:
        name: "MODEL/PRETRAINED" in open_clip's names, e.g. "ViT-B-32/laion2b_s34b_b79k", PRETRAINED also a file; or
            "hf-hub:ORG/REPOSITORY" or "local-dir:FOLDER".

    Raises WorldUnavailable for an unknown model and for weights that can't be had or don't fit.
    """
    import open_clip

    architecture, pretrained = _parts(name)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "QuickGELU mismatch")  # such a pair runs, and answers worse
            model = open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # of open_clip, the hub's client, its transport or torch: it can't be had
        raise WorldUnavailable(
            f"open_clip can't load {name!r} ({type(error).__name__}: {str(error).splitlines()[0][:300]}). With a "
            "network, it downloads the weights once; without one, name a file: --judge open_clip:MODEL/FILE, "
            "--clip MODEL/FILE"
        ) from error
    preprocessing = Preprocessing(_config(open_clip.get_model_preprocess_cfg(model)))
    return model.float().eval().requires_grad_(False), tokenizer, preprocessing


def _parts(name: str) -> tuple[str, str | None]:
    """Architecture and weights, both known. Raises WorldUnavailable."""
    import open_clip

    if name.startswith(ELSEWHERE):
        return name, None
    architecture, _, pretrained = name.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        raise WorldUnavailable(f"open_clip knows no model {architecture!r}{_near(architecture, known)}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags and not os.path.isfile(pretrained):
        raise WorldUnavailable(
            f"open_clip knows no weights {pretrained!r} of {architecture}, nor is that a file; it knows "
            f"{', '.join(tags) or 'none'}"
        )
    return architecture, pretrained


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; near: {', '.join(near)}" if near else "; `open_clip.list_pretrained()` lists its models"


def _config(found: dict[str, Any]) -> dict[str, Any]:
    """open_clip's preprocessing in timm's words. Raises WorldUnavailable for a way of resizing that timm lacks."""
    mode = found.get("resize_mode", "shortest")
    if mode not in CROP_MODES:
        raise WorldUnavailable(f"pictures are resized by {mode!r}; known here: {', '.join(CROP_MODES)}")
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return {
        "input_size": (3, height, width),
        "interpolation": found.get("interpolation", "bicubic"),
        "crop_pct": 1.0,
        "crop_mode": CROP_MODES[mode],
        "mean": tuple(found["mean"]),
        "std": tuple(found["std"]),
    }
