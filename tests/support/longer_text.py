"""A copy of a pipeline folder whose text encoder sees as many tokens as that of Stable Diffusion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TOKENS = 77
POSITIONS = "position_embedding.weight"
LIMITS = {"text_encoder/config.json": "max_position_embeddings", "tokenizer/tokenizer_config.json": "model_max_length"}


def copy(pipeline: Path, to: Path) -> Path:
    """Copy the folder `pipeline` to `to`. The embeddings of the further positions are noise of the usual size."""
    shutil.copytree(pipeline, to)
    for name, key in LIMITS.items():
        settings = json.loads((to / name).read_text())
        (to / name).write_text(json.dumps({**settings, key: TOKENS}))
    weights = to / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    (name,) = (name for name in tensors if name.endswith(POSITIONS))
    known = tensors[name]
    further = torch.randn(TOKENS - len(known), known.shape[1], generator=torch.Generator().manual_seed(0))
    save_file({**tensors, name: torch.cat([known, known.std() * further])}, weights, metadata={"format": "pt"})
    return to
