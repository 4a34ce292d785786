"""What a file or a folder is that is not a whole Stable Diffusion model, and what a user can do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bench.backbones import folder as pipeline_folder
from bench.backbones.checks.tensor_check import Header

UNET, EMA = "model.diffusion_model.", "model_ema."
VAE = ("first_stage_model.", "vae.")
TEXT = ("cond_stage_model.",)
FIRST = f"{UNET}input_blocks.0.0.weight"
WHOLE = "give the whole model"
MERGE = "merge it into a model, save the model as a diffusers folder, and give that folder"
INTO = "put its tensors into the whole model, save the model as a diffusers folder, and give that folder"


def _any(*parts: str) -> Callable[[Iterable[str]], bool]:
    return lambda names: any(part in name for name in names for part in parts)


def _begins(*starts: str) -> Callable[[Iterable[str]], bool]:
    return lambda names: any(name.startswith(starts) for name in names)


# (whether the names of a file's tensors are of this kind, what the file is, what to do), the first that fits counts
KINDS: tuple[tuple[Callable[[Iterable[str]], bool], str, str], ...] = (
    (_begins("conditioner.embedders."), "Stable Diffusion XL", "methods work on Stable Diffusion 1.x, or 2.x base"),
    (_any("joint_blocks.", "double_blocks.", "single_blocks."), "Stable Diffusion 3, Flux or a similar transformer",
     "methods work on Stable Diffusion 1.x, or 2.x base"),
    (_any("lora_up", "lora_down", "lora_A", "lora_B", "lora.up", "lora.down", "lora_unet", "lora_te", ".dora_scale"),
     "a LoRA, which changes a model but is not a model", MERGE),
    (_any("hada_w", "lokr_w", "oft_blocks", ".oft_"), "an adapter (LyCORIS), which changes a model but is not a model",
     MERGE),
    (_begins("ip_adapter.", "image_proj."), "an IP-Adapter, which adds pictures to prompts", WHOLE),
    (_any("controlnet_cond_embedding", "controlnet_down_blocks", "input_hint_block"), "a ControlNet", WHOLE),
    (_any("motion_modules.", "temporal_transformer"), "a motion module, which adds time to a model", WHOLE),
    (_any("emb_params", "string_to_param", "bundle_emb"), "a textual inversion, which adds a word to a model", WHOLE),
    (_begins("unet.", "text_encoder.", "vae."), "tensors of networks in diffusers' names, as tools that edit a model "
     "(UCE, for example) save them", INTO),
    (_begins("time_embed.", "input_blocks."), "a U-Net alone, without its prefix 'model.diffusion_model.'", WHOLE),
    (_begins("conv_in.weight"), "one network of a diffusers folder", "give the folder"),
    (_any("attn1.to_q", "attn2.to_", "transformer_blocks."), "tensors of a U-Net in diffusers' names", INTO),
    (_begins(UNET), "part of a U-Net", WHOLE),
    (_begins(EMA), "EMA weights of a U-Net alone", WHOLE),
    (_begins(*VAE, "encoder.down", "decoder.up", "encoder.conv_in", "decoder.conv_in"), "a VAE alone", WHOLE),
    (_begins(*TEXT, "text_model.", "vision_model.", "visual.", "transformer.resblocks"), "a text or picture encoder "
     "alone", WHOLE),
    (_begins("conv_in.", "down_blocks.", "up_blocks.", "mid_block."), "part of a U-Net in diffusers' names", INTO),
)  # fmt: skip
CONVERT = "give the folder of the whole model, which contains model_index.json"


def require_model(file: Path, names: Header) -> None:
    """Raise ValueError with the kind of a file unless it contains the U-Net of Stable Diffusion in its authors' names.

    Args:
        file: the file, for the message.
        names: the header of the file.
    """
    xl = any(name.startswith("conditioner.embedders.") for name in names)
    if FIRST not in names or xl:
        what, then = next(
            ((what, then) for fits, what, then in KINDS if fits(names)),
            ("Stable Diffusion 3 or another model", WHOLE) if names else ("an empty file", WHOLE),
        )
        raise ValueError(f"{file} is not a single file of Stable Diffusion 1.x or 2.x, but {what}; {then}")
    if (channels := names[FIRST].shape[1]) != 4:
        raise ValueError(f"{file}: its U-Net takes {channels} channels, for in-painting or another use; not 4")
    lacks = [
        f"no {what} ({first} and others are missing)"
        for what, starts, first in (
            ("VAE", VAE, "first_stage_model.decoder.conv_in.weight"),
            ("text encoder", TEXT, "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"),
        )
        if not any(name.startswith(starts) for name in names)
    ]
    if lacks:
        raise ValueError(f"{file} has a U-Net, but {' and '.join(lacks)}; {WHOLE}")


def of_folder(folder: Path) -> str:
    """What a folder without model_index.json is, and what to do."""
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names or "pytorch_lora_weights.safetensors" in names:
        return f"it is a LoRA, which changes a model but is not a model; {MERGE}"
    if "learned_embeds.safetensors" in names or "learned_embeds.bin" in names:
        return f"it is a textual inversion, which adds a word to a model; {WHOLE}"
    if snapshots := sorted(folder.glob("snapshots/*/" + pipeline_folder.INDEX)):
        return f"it is a folder of the hub's cache; give {snapshots[0].parent}"
    if below := sorted(folder.glob("*/" + pipeline_folder.INDEX)):
        return f"a pipeline is in the folder below; give {below[0].parent}"
    if (folder.parent / pipeline_folder.INDEX).is_file() or "config.json" in names:
        return f"it is one part of a pipeline; {CONVERT}"
    if {"unet", "unet_ema"} & names:
        return f"it has networks and no {pipeline_folder.INDEX}, as the checkpoints of a training; {CONVERT}"
    if files := sorted(name for name in names if name.endswith((".safetensors", ".ckpt"))):
        return f"it contains the file {files[0]}; if this is the model, give the file"
    return CONVERT
