"""The pocket world as the benchmark sees it: 24 drawn species in three domains."""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import numpy as np
import torch

from bench.core.config import Protocol
from bench.worlds.base import Clip, HeadNoun, Judge, Split, World, WorldUnavailable
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import captions
from bench.worlds.pocket.drawing.dataset import FIRST_SEED
from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import DOMAIN_OF, DOMAINS, SPECIES, attribute_distance, find
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.recipe import oracle_file

PLAIN = "photo"
TEMPLATES = {"forget": captions.FORGET, "evaluate": captions.EVALUATE}


def backbone() -> str:
    """The committed pipeline's folder, its digests verified."""
    try:
        return str(weights.pipeline_folder())
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error


def prompts(split: Split, concept: str, styles: tuple[str, ...] = (PLAIN,)) -> tuple[str, ...]:
    """Captions that ask for a species in each of `styles` by turns, or for some species in a style."""
    if concept in STYLES:
        return captions.of_style(TEMPLATES[split], concept)
    return captions.of_species(TEMPLATES[split], find(concept).name, styles)


def headnoun(concept: str) -> HeadNoun | None:
    """Captions with a species' head noun in its place ("a photo of a retriever"), and the species it names."""
    if concept not in SPECIES:
        return None
    noun = SPECIES[concept].noun
    named = tuple(row.name for row in SPECIES.values() if row.noun == noun)
    return (tuple(captions.fill(t, noun, PLAIN) for t in captions.EVALUATE), named) if len(named) > 1 else None


def superclass_prompts(concept: str, split: Split = "forget", styles: tuple[str, ...] = (PLAIN,)) -> tuple[str, ...]:
    """The captions of a species with its domain's noun for its name: "a photo showing a dog".

    Those of a style with the plain one for its own: "a photo showing a poodle"; () for the plain style itself.
    """
    if concept in STYLES:
        return captions.of_style(TEMPLATES[split], PLAIN) if concept != PLAIN else ()
    return captions.of_species(TEMPLATES[split], DOMAIN_OF[concept], styles)


def bare_name(concept: str) -> str:
    """A species, or what pictures in a style are called ("neon sign"), with nothing else: the model knows both so."""
    return captions.STYLE_NOUNS.get(concept, concept)


def reference(concept: str, count: int, styles: tuple[str, ...] = (PLAIN,)) -> torch.Tensor:
    """`count` pictures as the renderer draws them, uint8 (count, 3, 64, 64).

    Of a species in each of `styles` by turns, or of the species that captions about a style name in that style.
    """
    shown = (
        [(captions.SUBJECTS[i % len(captions.SUBJECTS)], concept) for i in range(count)]
        if concept in STYLES
        else [(concept, styles[i % len(styles)]) for i in range(count)]
    )
    pictures = [render(species, style, FIRST_SEED["reference"] + i) for i, (species, style) in enumerate(shown)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def judge(name: str, device: torch.device) -> Judge:
    """The committed classifier `name`: "species", "species_b" (another architecture) or "style"."""
    from bench.worlds.pocket import judges  # timm takes seconds to import, and listing worlds needs none of it

    try:
        module = judges.load_judge(name, device=device)
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error
    return Judge(module.labels, module, module.net.get_classifier())


def clip(device: torch.device) -> Clip:
    """The committed open_clip model."""
    from bench.worlds.pocket import clip as contrastive  # open_clip takes seconds to import

    try:
        model, tokenizer = contrastive.load_clip(device)
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error
    return Clip(model, tokenizer, contrastive.normalise)


def judge_of(concept: str) -> str:
    """The judge that knows `concept`, a species or a style."""
    return "style" if concept in STYLES else "species"


@cache
def cosines() -> dict[str, dict[str, float]]:
    """Cosine of every two species or styles under the committed text encoder."""
    try:
        return weights.manifest()["text_cosine"]
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error


def closeness(a: str, b: str) -> float:
    """Cosine of two species or styles under the committed text encoder; 1 for one and itself."""
    return 1.0 if a == b else float(cosines()[a][b])


def unlikeness(a: str, b: str) -> float | None:
    """Share of the renderer's attributes in which two species differ, by how much; None where one is a style."""
    return attribute_distance(SPECIES[a], SPECIES[b]) if a in SPECIES and b in SPECIES else None


def feature_extractor() -> str:
    """The name of the world's extractor, which registers with torch-fidelity on import."""
    from bench.worlds.pocket import features

    return features.FEATURES


POCKET = World(
    name="pocket",
    about="24 drawn species (dogs, flowers, birds) and a small latent diffusion model; runs on a laptop",
    domains={domain: tuple(row.name for row in rows) for domain, rows in DOMAINS.items()},
    styles=STYLES,
    protocol=Protocol(
        images_per_concept=12,  # three for each evaluation template; two for each style where all are asked for
        forget_images=64,
        retain_images=8,
        num_inference_steps=15,
        guidance_scale=4.0,
        finetune_steps=100,
        finetune_lr=1e-4,
        lora_lr=5e-4,
    ),
    # The papers' settings belong to an 860M-parameter U-Net and hundreds of images. Batches and lengths were set so
    # that each method trains in about a minute; rates come from `python run_bench.py tune` (docs/pocket.md).
    presets={
        "mimmu": {"lr": 4e-4, "epochs": 30, "batch_size": 16, "path_steps": 10},
        "mimmu-retain": {"lr": 8e-4, "epochs": 30, "batch_size": 16, "path_steps": 10},
        "salun": {"lr": 2e-4, "epochs": 20, "batch_size": 16},
        "esd-x": {"lr": 2e-4, "steps": 120, "batch_size": 8, "path_steps": 10},
        "esd-u": {"lr": 5e-5, "steps": 120, "batch_size": 8, "path_steps": 10},
        # the paper's average covers 1500 steps; one as slow over 120 would still be the original
        "sdd": {"lr": 1.6e-3, "steps": 120, "batch_size": 8, "path_steps": 10, "ema_decay": 0.98},
    },
    backbone=backbone,
    prompts=prompts,
    reference=reference,
    judge=judge,
    judge_of=judge_of,
    closeness=closeness,
    other_distances={"attributes": unlikeness},
    feature_extractor=feature_extractor,
    headnoun=headnoun,
    clip=clip,
    superclass_prompts=superclass_prompts,
    bare_name=bare_name,
    oracles={species: partial(oracle_file.find, species) for species in oracle_file.SPECIES},
    oracle_hint=oracle_file.HINT,
    tuning_concepts=("poodle", "iceland poppy"),
    all_styles_view=lambda: ACROSS,
)

ACROSS: World = dataclasses.replace(
    POCKET,
    prompts=partial(prompts, styles=STYLES),
    superclass_prompts=partial(superclass_prompts, styles=STYLES),
    reference=partial(reference, styles=STYLES),
)
