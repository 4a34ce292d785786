"""Write trained modules as files that diffusers and open_clip load."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from bench.worlds.pocket import clip
from bench.worlds.pocket.weights import save_half


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save the tokenizer for this version of transformers, and as `vocab.json` and `merges.txt` for older versions.

    Older versions are those before version 5.
    """
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    rules = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(rules) + "\n")


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write `pipeline` as a folder in Stable Diffusion's format.

    Its tensors are stored in fp16. The folder loads in fp32 by default.
    """
    half = StableDiffusionPipeline(
        **{k: copy.deepcopy(v).half() if isinstance(v, nn.Module) else v for k, v in pipeline.components.items()},
        requires_safety_checker=False,
    )
    half.save_pretrained(folder)
    save_tokenizer(pipeline.tokenizer, folder / "tokenizer")
    for file in folder.glob("*/config.json"):  # remove the path that the part had during training
        part = json.loads(file.read_text())
        part.pop("_name_or_path", None)
        file.write_text(json.dumps(part, indent=2) + "\n")
    # transformers 5 loads the stored precision unless the config names one. Without this entry, the fp32 U-Net would
    # get fp16 hidden states.
    file = folder / "text_encoder" / "config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    config.pop("torch_dtype", None)
    file.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")


def save_clip(model: nn.Module, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write `model` as a folder that `open_clip.create_model("local-dir:...")` loads."""
    save_half(model, folder / "open_clip_model.safetensors")
    save_tokenizer(tokenizer, folder)
    config = {**clip.CONFIG, "text_cfg": {**clip.CONFIG["text_cfg"], "vocab_size": len(tokenizer)}}
    text = {"model_cfg": config, "preprocess_cfg": clip.PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(text, indent=2) + "\n")
