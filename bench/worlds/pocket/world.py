"""The pocket world as the benchmark sees it: 24 drawn species in three domains."""

from __future__ import annotations

import numpy as np
import torch

from bench.config import Protocol
from bench.worlds.base import Judge, Split, World
from bench.worlds.pocket import captions, judges, weights
from bench.worlds.pocket.dataset import FIRST_SEED
from bench.worlds.pocket.renderer import render
from bench.worlds.pocket.species import DOMAINS, NAMES
from bench.worlds.pocket.styles import STYLES

PLAIN = "photo"
TEMPLATES = {"forget": captions.FORGET, "evaluate": captions.EVALUATE}


def prompts(split: Split, concept: str) -> tuple[str, ...]:
    """Captions that ask for a species in the plain style."""
    return tuple(captions.caption(template, concept, PLAIN) for template in TEMPLATES[split])


def reference(concept: str, count: int) -> torch.Tensor:
    """`count` pictures of a species in the plain style, as the renderer draws them: uint8 (count, 3, 64, 64)."""
    pictures = np.stack([render(concept, PLAIN, FIRST_SEED["reference"] + i) for i in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def judge(name: str, device: torch.device) -> Judge:
    """The committed classifier `name`: "species", "species_b" (another architecture) or "style"."""
    labels = STYLES if name == "style" else NAMES
    return Judge(labels, judges.load_judge(name, device=str(device)))


def judge_of(concept: str) -> str:
    """The judge that knows `concept`, a species or a style."""
    return "style" if concept in STYLES else "species"


def closeness(a: str, b: str) -> float:
    """Cosine of the two names' text embeddings under the committed text encoder."""
    return float(weights.manifest()["text_cosine"][a][b])


def feature_extractor() -> str:
    """Registers the world's extractor with torch-fidelity on first import."""
    from bench.worlds.pocket import features

    return features.FEATURES


POCKET = World(
    name="pocket",
    about="24 drawn species (dogs, flowers, birds) and a 4M-parameter latent diffusion model; runs on a laptop",
    domains={domain: tuple(row.name for row in rows) for domain, rows in DOMAINS.items()},
    styles=STYLES,
    protocol=Protocol(
        images_per_concept=10,
        forget_images=64,
        retain_images=8,
        num_inference_steps=15,
        guidance_scale=4.0,
    ),
    # The papers' learning rates and epochs belong to an 860M-parameter U-Net and hundreds of images.
    presets={
        "mimmu": {"lr": 4e-4, "epochs": 30, "batch_size": 16},
        "salun": {"lr": 1e-4, "epochs": 30, "batch_size": 16},
    },
    backbone=lambda: str(weights.pipeline_folder()),
    prompts=prompts,
    reference=reference,
    judge=judge,
    judge_of=judge_of,
    closeness=closeness,
    feature_extractor=feature_extractor,
)
