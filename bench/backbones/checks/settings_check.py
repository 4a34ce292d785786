"""Whether methods can work on a pipeline, from its JSON files. No network is loaded and no weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.backbones import folder as pipeline_folder

PIPELINE = "StableDiffusionPipeline"
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
OTHER_USES = {9: "in-painting", 8: "editing pictures", 5: "depth maps", 7: "upscaling"}  # U-Net's inputs -> its use
TOKENIZER = "tokenizer/tokenizer_config.json"
# settings of a U-Net that takes more than latents, a timestep and a prompt -> what it takes
MORE_INPUTS = {
    "time_cond_proj_dim": "an embedding of the guidance scale, since it was distilled with guidance",
    "class_embed_type": "classes",
    "num_class_embeds": "classes",
    "addition_embed_type": "further embeddings, as Stable Diffusion XL does",
    "projection_class_embeddings_input_dim": "further embeddings",
}


def require_usable(folder: Path) -> None:
    """Raise ValueError if the settings of the pipeline show that methods can't work on it."""
    index = pipeline_folder.read_json(folder / pipeline_folder.INDEX)
    kind = index.get("_class_name")
    if kind != PIPELINE:
        raise ValueError(f"{folder} is a {kind}; methods work on a {PIPELINE}: Stable Diffusion 1.x, or 2.x base")
    for part, names in CLASSES.items():
        entry = index.get(part)
        found = entry[-1] if isinstance(entry, list) and entry else None
        if found not in names:
            raise ValueError(f"{folder}: its {part} is {found or 'missing'}; it must be a {' or '.join(names)}")
    unet, vae, text = (pipeline_folder.config(folder, part) for part in pipeline_folder.NETWORKS)
    _require_unet(folder, unet)
    _require_fitting(folder, unet, vae, text)
    pipeline_folder.noise_of(folder)


def _require_unet(folder: Path, unet: Mapping[str, Any]) -> None:
    takes, gives = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if takes != gives:
        raise ValueError(
            f"{folder}: its U-Net takes {takes} channels and predicts {gives}, for "
            f"{OTHER_USES.get(takes, 'another use')}; methods give it noisy latents alone"
        )
    for setting, what in MORE_INPUTS.items():
        if unet.get(setting) is not None:
            raise ValueError(
                f"{folder}: its U-Net also takes {what} ({setting} is {unet[setting]!r}); methods give it noisy "
                "latents, a timestep and a prompt alone"
            )
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        raise ValueError(
            f"{folder}: its U-Net takes {unet['encoder_hid_dim_type']!r} in place of a prompt, as image adapters do"
        )
    size = unet.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ValueError(
            f"{folder / 'unet' / 'config.json'}: sample_size is {size!r}; write the side of the model's latents there, "
            "or [height, width], e.g. 64 for pictures of 512 pixels"
        )


def _require_fitting(folder: Path, unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raise ValueError if the networks do not fit each other, or the VAE scales its latents in another way."""
    channels, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if channels != latents:
        raise ValueError(
            f"{folder}: its VAE has {latents} latent channels and its U-Net {channels}; they must be equal"
        )
    width = text.get("hidden_size", 512)
    takes = unet.get("encoder_hid_dim") or unet.get("cross_attention_dim", 1280)
    if any(one != width for one in (takes if isinstance(takes, list) else [takes])):
        raise ValueError(
            f"{folder}: its text encoder gives {width} numbers for each token and its U-Net takes {takes}; the parts "
            "are of different models"
        )
    scale = vae.get("scaling_factor", 0.18215)
    if not isinstance(scale, int | float) or not math.isfinite(scale) or scale <= 0:
        raise ValueError(f"{folder / 'vae' / 'config.json'}: scaling_factor is {scale!r}; it must be a positive number")
    for setting in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(setting) is not None:
            raise ValueError(
                f"{folder / 'vae' / 'config.json'}: {setting} is {vae[setting]!r}; latents of Stable Diffusion are "
                "scaled by scaling_factor alone"
            )
    if not (folder / TOKENIZER).parent.is_dir():
        return  # the search for the files of the folder says that it is missing
    tokens, longest = text.get("max_position_embeddings", 77), _tokenizer(folder).get("model_max_length")
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 3:  # start, a token of the text, end
        raise ValueError(
            f"{folder / TOKENIZER}: model_max_length is {longest!r}; it must be the number of tokens that the text "
            f"encoder takes, {tokens}"
        )
    if longest > tokens:
        raise ValueError(
            f"{folder}: its tokenizer gives up to {longest} tokens (model_max_length) and its text encoder takes "
            f"{tokens}; the parts are of different models"
        )


def _tokenizer(folder: Path) -> dict[str, Any]:
    file = folder / TOKENIZER
    return pipeline_folder.read_json(file) if file.is_file() else {}
