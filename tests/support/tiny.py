"""A world small enough for tests: a few drawn species, a pipeline of random weights, untrained judges."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bench.core.config import Protocol
from bench.worlds.base import Clip, HeadNoun, Judge, Split, World
from bench.worlds.pocket.drawing import captions, renderer
from bench.worlds.pocket.drawing.species import DOMAINS, attribute_distance, find
from bench.worlds.pocket.weights import WEIGHTS

CONCEPTS = {domain: tuple(row.name for row in (*rows[:4], rows[6])) for domain, rows in DOMAINS.items()}
LABELS = tuple(name for names in CONCEPTS.values() for name in names)
STYLES = ("photo", "sketch", "neon")
EXTRACTOR = "tiny-8"
W = TypeVar("W", bound=World)
render = functools.cache(renderer.render)  # every run of a test asks for the same few pictures
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mimmu": {"lr": 1e-3, "epochs": 2, "batch_size": 4},
    "salun": {"lr": 1e-3, "epochs": 2},
}


def build_pipeline(folder: Path) -> Path:
    """Save a Stable-Diffusion-format pipeline of random weights, 64 x 64 pixels, in `folder`/pipeline."""
    torch.manual_seed(0)
    words = CLIPTokenizer.from_pretrained(WEIGHTS / "pipeline" / "tokenizer", model_max_length=20)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=20, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=4, sample_size=64, scaling_factor=0.65,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=words, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


class TinyFeatures(FeatureExtractorBase):
    """Mean colour of eight regions, so that features depend on the picture and on nothing learnt."""

    def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
        super().__init__(name, features_list)
        self.pool = torch.nn.AdaptiveAvgPool2d((2, 4))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("8",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "8"

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.pool(images.float().mean(1, keepdim=True)).flatten(1),)


def feature_extractor() -> str:
    if EXTRACTOR not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(EXTRACTOR, TinyFeatures)
    return EXTRACTOR


def clip(words: CLIPTokenizer, device: torch.device) -> Clip:
    """An open_clip model of random weights."""
    torch.manual_seed(2)
    vision = {"image_size": 64, "layers": 1, "width": 16, "head_width": 8, "patch_size": 32}
    text = {"context_length": 20, "vocab_size": len(words), "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(8, vision, text).eval().requires_grad_(False).to(device)

    def tokenize(captions: list[str]) -> torch.Tensor:
        return words(captions, padding="max_length", max_length=20, return_tensors="pt").input_ids

    return Clip(model, tokenize, lambda pictures: pictures * 2 - 1)


class Tiny(World):
    """The tiny world.

    Args:
        pipeline: folder that `build_pipeline` has filled.
        prompt_styles: styles that prompts and reference images of a species have, in turn.
    """

    name = "tiny"
    about = "for tests"
    domains = CONCEPTS
    styles = STYLES
    protocol = Protocol(
        images_per_concept=3,
        forget_images=8,
        retain_images=2,
        num_inference_steps=2,
        guidance_scale=3.0,
        reference_per_concept=4,
        finetune_steps=2,
        finetune_batch=4,
        finetune_pictures=8,
        probe_timesteps=4,
        timestep_spacing="leading",
    )
    presets = PRESETS

    def __init__(self, pipeline: Path, prompt_styles: tuple[str, ...] = STYLES[:1]) -> None:
        self.pipeline, self.prompt_styles = pipeline, prompt_styles

    def backbone(self) -> str:
        return str(self.pipeline)

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        templates = captions.FORGET if split == "forget" else captions.EVALUATE
        if concept in STYLES:
            return captions.of_style(templates, concept)
        return captions.of_species(templates, concept, self.prompt_styles)

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """For a style those of the plain one; a species has no superclass here."""
        return self.prompts(split, STYLES[0]) if concept in STYLES[1:] else ()

    def headnoun(self, concept: str) -> HeadNoun | None:
        """Golden and labrador retriever share their noun; the others are taken to share none."""
        noun, named = "retriever", ("golden retriever", "labrador retriever")
        return (tuple(captions.fill(t, noun) for t in captions.EVALUATE), named) if concept in named else None

    def reference(self, concept: str, count: int) -> torch.Tensor:
        styles = self.prompt_styles
        shown = [
            (LABELS[0], concept) if concept in STYLES else (concept, styles[i % len(styles)]) for i in range(count)
        ]
        images = np.stack([render(species, style, seed=i) for i, (species, style) in enumerate(shown)])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def judge_of(self, concept: str) -> str:
        return "style" if concept in STYLES else "species"

    def judge(self, name: str, device: torch.device) -> Judge:
        """A linear layer of random weights on a thumbnail; the judge of styles takes a smaller one."""
        labels, side = (STYLES, 4) if name == "style" else (LABELS, 8)
        torch.manual_seed(1)
        head = torch.nn.Linear(3 * side * side, len(labels))
        module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(side), torch.nn.Flatten(), head).eval().to(device)
        return Judge(labels, module, head)

    def clip(self, device: torch.device) -> Clip | None:
        return clip(CLIPTokenizer.from_pretrained(self.pipeline / "tokenizer"), device)

    def feature_extractor(self) -> str:
        return feature_extractor()

    def closeness(self, a: str, b: str) -> float:
        if a in STYLES or b in STYLES:
            return float(a == b)
        return 1 - attribute_distance(find(a), find(b))

    def all_styles_view(self) -> World:
        return variant(self, prompt_styles=STYLES)


def variant(world: W, **changes: Any) -> W:
    """A copy of a world with other attributes and methods. A method is given as a function without `self`."""
    made = copy.copy(world)
    members = {name: staticmethod(value) if callable(value) else value for name, value in changes.items()}
    made.__class__ = type("Variant", (type(world),), members)
    for name in changes:
        vars(made).pop(name, None)
    return made
