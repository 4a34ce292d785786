"""A pipeline written the other way round: as the one file that Stable Diffusion's authors publish."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
ENDS = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write(pipeline: StableDiffusionPipeline, file: Path) -> Path:
    """Save the networks of `pipeline` in `file`."""
    depth = pipeline.unet.config.layers_per_block + 1
    levels = len(pipeline.vae.config.block_out_channels)
    cross = [name.startswith("CrossAttn") for name in pipeline.unet.config.up_block_types]
    tensors = {
        f"model.diffusion_model.{_unet(n, depth, cross)}": t for n, t in pipeline.unet.state_dict().items()
    }  # fmt: skip
    for name, tensor in pipeline.vae.state_dict().items():
        flat = ".attentions." in name and tensor.ndim == 2  # a 1x1 convolution there
        tensors[f"first_stage_model.{_vae(name, levels)}"] = tensor[..., None, None] if flat else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        stem = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[f"cond_stage_model.transformer.{stem}"] = tensor
    save_file({name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}, file)
    return file


def _unet(name: str, depth: int, cross: list[bool]) -> str:
    for ours, theirs in ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    kind, rest = name.split(".", 1)
    if kind == "mid_block":
        part, i, rest = rest.split(".", 2)
        return f"middle_block.{1 if part == 'attentions' else 2 * int(i)}.{_resnet(part, rest)}"
    block, part, i, rest = rest.split(".", 3)
    at, slot = int(block) * depth + int(i), 1 if part == "attentions" else 0
    if kind == "down_blocks":
        if part == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * depth}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{at + 1}.{slot}.{_resnet(part, rest)}"
    if part == "upsamplers":
        return f"output_blocks.{(int(block) + 1) * depth - 1}.{2 if cross[int(block)] else 1}.{rest}"
    return f"output_blocks.{at}.{slot}.{_resnet(part, rest)}"


def _resnet(part: str, rest: str) -> str:
    if part != "resnets":
        return rest
    name, end = rest.rsplit(".", 1)
    return f"{RESNET[name]}.{end}"


def _vae(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        head, tail = name.split("mid_block.attentions.0.")
        part, end = tail.rsplit(".", 1)
        return f"{head}mid.attn_1.{ATTENTION[part]}.{end}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
