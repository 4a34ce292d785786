"""open_clip models by name, with their tokenizers and preprocessing, and error messages if loading fails."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.backbones.checks import tensor_check
from bench.worlds.base import WorldUnavailable
from bench.worlds.preprocessing import Preprocessing

CROP_MODES = {"shortest": "center", "squash": "squash"}  # open_clip's resize mode -> timm's crop mode
ELSEWHERE = ("hf-hub:", "local-dir:")  # open_clip's prefixes; the place has weights and architecture


def create(name: str) -> tuple[Any, Any, Preprocessing]:
    """Load the model `name`. Returns the model (on the CPU, fp32, eval mode, frozen), its tokenizer and preprocessing.

    Args:
        name: "MODEL/PRETRAINED", "hf-hub:ORG/REPOSITORY" or "local-dir:FOLDER". MODEL and PRETRAINED are names of
            open_clip, e.g. "ViT-B-32/laion2b_s34b_b79k". PRETRAINED can also be a file.

    Raises WorldUnavailable for an unknown model, for weights that can't be loaded or do not fit the model, and for
    unknown preprocessing.
    """
    import open_clip

    architecture, pretrained = _parts(name)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "QuickGELU mismatch")  # the model would run with worse accuracy
            model = open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip, the hub's client, its transport and torch raise many types
        raise WorldUnavailable(
            f"open_clip can't load {name!r} ({type(error).__name__}: {str(error).splitlines()[0][:300]}). With a "
            "network, it downloads the weights once; without one, name a file: --judge open_clip:MODEL/FILE, "
            "--clip MODEL/FILE, or judge: {open_clip: MODEL/FILE} in a file of --concepts"
        ) from error
    _require_sound(name, pretrained, model)
    preprocessing = Preprocessing(_config(open_clip.get_model_preprocess_cfg(model)))
    return model.float().eval().requires_grad_(False), tokenizer, preprocessing


def _require_sound(name: str, pretrained: str | None, model: Any) -> None:
    """Raise WorldUnavailable for weights that are not finite, and for a file that open_clip changed to make it fit.

    open_clip resizes the positions of a model for pictures or texts of another size, and says nothing.
    """
    own = model.state_dict()
    try:
        tensor_check.require_finite(f"{name!r}", own.items())
        if pretrained is not None and os.path.isfile(pretrained):
            shared = {n: tensor for n, tensor in _header(Path(pretrained)).items() if n in own}
            tensor_check.compare(pretrained, name, shared, {n: own[n] for n in shared})
    except tensor_check.TensorMismatch as error:
        raise WorldUnavailable(str(error)) from error


def _header(file: Path) -> tensor_check.Header:
    """The header of a file; {} for a file without named tensors that open_clip loaded, such as TorchScript."""
    try:
        return tensor_check.header(file)
    except tensor_check.TensorMismatch:
        return {}


def _parts(name: str) -> tuple[str, str | None]:
    """The architecture and the weights in `name`. The weights are None if `name` has one of the prefixes ELSEWHERE.

    Raises WorldUnavailable if open_clip does not know the architecture, or if the weights are neither known nor a file.
    """
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
    """Convert open_clip's preprocessing settings to timm's data config, see `preprocessing.KEYS`.

    Raises WorldUnavailable for a resize mode that CROP_MODES does not contain.
    """
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
