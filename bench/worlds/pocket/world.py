"""The pocket world: 24 drawn species in three domains, in six styles, with a small latent diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bench.core import digest
from bench.core.config import Protocol
from bench.worlds.base import Clip, Distance, HeadNoun, Judge, Split, World, WorldUnavailable
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import captions, renderer
from bench.worlds.pocket.drawing.dataset import FIRST_SEED
from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import DOMAIN_OF, DOMAINS, SPECIES, attribute_distance, find
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.recipe import oracle_file

PLAIN = "photo"
TEMPLATES = {"forget": captions.FORGET, "evaluate": captions.EVALUATE}
# The papers' settings are made for a U-Net with 860M parameters and for hundreds of images. Here the batch sizes and
# the numbers of steps or epochs let each method train in about a minute. `python run_bench.py tune` chose the learning
# rates (docs/pocket.md).
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mimmu": {"lr": 4e-4, "epochs": 30, "batch_size": 16, "path_steps": 10},
    "mimmu-retain": {"lr": 8e-4, "epochs": 30, "batch_size": 16, "path_steps": 10},
    "salun": {"lr": 2e-4, "epochs": 20, "batch_size": 16},
    "esd-x": {"lr": 2e-4, "steps": 120, "batch_size": 8, "path_steps": 10},
    "esd-u": {"lr": 5e-5, "steps": 120, "batch_size": 8, "path_steps": 10},
    # The paper's EMA runs over 1500 steps. After only 120 steps, an EMA with the paper's decay would still be close to
    # the original weights.
    "sdd": {"lr": 1.6e-3, "steps": 120, "batch_size": 8, "path_steps": 10, "ema_decay": 0.98},
}
# No search was run for these: they have the settings of the method that they are nearest to.
NOT_SEARCHED: Mapping[str, Mapping[str, Any]] = {
    "mimmu-sds": PRESETS["mimmu"],
    "mimmu-critic": PRESETS["mimmu"],
    "erasediff": PRESETS["salun"],
    "shs": PRESETS["salun"],
    "esd-x-present": PRESETS["esd-x"],
}


@cache
def _text_cosines() -> dict[str, dict[str, float]]:
    """Cosine similarity of each pair of species or styles under the committed text encoder.

    Raises WorldUnavailable if the manifest can't be read.
    """
    try:
        return weights.manifest()["text_cosine"]
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error


class Pocket(World):
    """The pocket world.

    Args:
        prompt_styles: the styles of a species' prompts and reference images. The prompts and images use these styles
            in turn.
    """

    name = "pocket"
    about = "24 drawn species (dogs, flowers, birds) and a small latent diffusion model; runs on a laptop"
    domains: Mapping[str, tuple[str, ...]] = {
        domain: tuple(row.name for row in rows) for domain, rows in DOMAINS.items()
    }
    styles = STYLES
    protocol = Protocol(
        images_per_concept=12,  # three for each evaluation template; two for each style in `all_styles_view`
        forget_images=64,
        retain_images=8,
        num_inference_steps=15,
        guidance_scale=4.0,
        finetune_steps=100,
        finetune_lr=1e-4,
        lora_lr=5e-4,
    )
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({**PRESETS, **NOT_SEARCHED})
    verifies_backbone = True
    tuning_concepts = ("poodle", "iceland poppy")
    oracle_concepts = tuple(oracle_file.SPECIES)
    oracle_hint = oracle_file.HINT

    def __init__(self, prompt_styles: tuple[str, ...] = (PLAIN,)) -> None:
        self.prompt_styles = prompt_styles

    def backbone(self) -> str:
        """The folder of the committed pipeline. Raises WorldUnavailable if the digest of a file is wrong."""
        try:
            return str(weights.pipeline_folder())
        except weights.WeightsError as error:
            raise WorldUnavailable(str(error)) from error

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """The prompts of a concept: a species in each of `prompt_styles` in turn, or several species in a style."""
        if concept in STYLES:
            return captions.of_style(TEMPLATES[split], concept)
        return captions.of_species(TEMPLATES[split], find(concept).name, self.prompt_styles)

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The prompts of a species with its domain in place of its name: "a photo showing a dog".

        For a style, the prompts have the plain style in its place: "a photo showing a poodle". () for the plain style.
        """
        if concept in STYLES:
            return captions.of_style(TEMPLATES[split], PLAIN) if concept != PLAIN else ()
        return captions.of_species(TEMPLATES[split], DOMAIN_OF[concept], self.prompt_styles)

    def bare_name(self, concept: str) -> str:
        """The name of a species, or the noun of a style ("neon sign"). The model's training captions include both."""
        return captions.STYLE_NOUNS.get(concept, concept)

    def headnoun(self, concept: str) -> HeadNoun | None:
        """Prompts with the head noun of a species in place of its name, and the names of the species with this noun.

        An example of such a prompt is "a photo of a retriever". None for a style, and for a species whose head noun
        belongs to this species only.
        """
        if concept not in SPECIES:
            return None
        noun = SPECIES[concept].noun
        named = tuple(row.name for row in SPECIES.values() if row.noun == noun)
        return (tuple(captions.fill(t, noun, PLAIN) for t in captions.EVALUATE), named) if len(named) > 1 else None

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """`count` images from the renderer, uint8 (count, 3, 64, 64).

        For a species, the images show the species in each of `prompt_styles` in turn. For a style, the images show the
        species of captions.SUBJECTS in turn, in that style.
        """
        shown = (
            [(captions.SUBJECTS[i % len(captions.SUBJECTS)], concept) for i in range(count)]
            if concept in STYLES
            else [(concept, self.prompt_styles[i % len(self.prompt_styles)]) for i in range(count)]
        )
        images = [render(species, style, FIRST_SEED["reference"] + i) for i, (species, style) in enumerate(shown)]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    def reference_key(self, concept: str, count: int | None = None) -> str | None:
        """The digest of the first two images, and the renderer's version if it is not the first one.

        The renderer's code decides all images, and its version stands for that code. None for a subclass with other
        reference images.
        """
        if type(self).reference is not Pocket.reference:
            return None
        first = digest.of_tensors({"pictures": self.reference(concept, 2)})
        return first if renderer.VERSION == 1 else f"{first}, renderer {renderer.VERSION}"

    def judge_of(self, concept: str) -> str:
        """ "style" for a style, "species" for a species."""
        return "style" if concept in STYLES else "species"

    def judge(self, name: str, device: torch.device) -> Judge:
        """The committed classifier `name`: "species", "species_b" (another architecture) or "style".

        Raises WorldUnavailable if the weights are missing or damaged.
        """
        from bench.worlds.pocket import judges  # importing timm takes seconds, and listing the worlds does not need it

        try:
            module = judges.load_judge(name, device=device)
        except weights.WeightsError as error:
            raise WorldUnavailable(str(error)) from error
        return Judge(module.labels, module, module.net.get_classifier())

    def clip(self, device: torch.device) -> Clip:
        """The committed open_clip model. Raises WorldUnavailable if its weights are missing or damaged."""
        from bench.worlds.pocket import clip as contrastive  # importing open_clip takes seconds

        try:
            model, tokenizer = contrastive.load_clip(device)
        except weights.WeightsError as error:
            raise WorldUnavailable(str(error)) from error
        return Clip(model, tokenizer, contrastive.normalise, verified=True)

    def feature_extractor(self) -> str:
        """The name of the pocket world's own feature extractor. Its import registers it with torch-fidelity."""
        from bench.worlds.pocket import features

        return features.FEATURES

    def closeness(self, a: str, b: str) -> float:
        """Cosine similarity of two species or styles under the committed text encoder."""
        return 1.0 if a == b else float(_text_cosines()[a][b])

    @property
    def other_distances(self) -> Mapping[str, Distance]:
        """ "attributes": the share of attributes in which two species differ, 0 to 1. For a style it is None."""
        return {"attributes": _attribute_distance}

    def oracle(self, concept: str) -> Path | None:
        """The file of the oracle of a concept, or None if the oracle was not built.

        Raises WorldUnavailable for a file that is damaged or does not belong to the committed weights.
        """
        return oracle_file.find(concept)

    def all_styles_view(self) -> Pocket:
        """The pocket world whose prompts and reference images of a species use all six styles in turn."""
        return type(self)(prompt_styles=STYLES)


def _attribute_distance(a: str, b: str) -> float | None:
    return attribute_distance(SPECIES[a], SPECIES[b]) if a in SPECIES and b in SPECIES else None


POCKET = Pocket()
