"""The distances of species, from their table of attributes, and of species and styles, from the text encoder."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline

from bench.worlds.pocket.drawing.captions import EVALUATE, caption, of_style
from bench.worlds.pocket.drawing.species import NAMES, SPECIES, attribute_distance
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.recipe import text

Table = dict[str, dict[str, float]]


def attribute_distances() -> Table:
    """`attribute_distance` of every pair of species, from 0 (equal attributes) to 1."""
    return {a: {b: round(attribute_distance(SPECIES[a], SPECIES[b]), 4) for b in NAMES} for a in NAMES}


@torch.no_grad()
def text_embeddings(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    """Final text state at the end token, mean over the evaluation captions of each of NAMES, then of each of STYLES.

    (number of both, width). Captions of species are in the plain style.
    """
    encoder, tokenizer = pipeline.text_encoder, pipeline.tokenizer
    asked = [[caption(t, name) for t in EVALUATE] for name in NAMES] + [of_style(EVALUATE, style) for style in STYLES]
    means = []
    for captions in asked:
        ids = text.tokenize(tokenizer, list(captions)).to(encoder.device)
        states = encoder(ids).last_hidden_state.float()
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        means.append(states[torch.arange(len(ids)), end].mean(0))
    return torch.stack(means)


def text_cosines(pipeline: StableDiffusionPipeline) -> Table:
    """The cosine of `text_embeddings` for every pair of species and of styles, -1 to 1."""
    names = (*NAMES, *STYLES)
    unit = torch.nn.functional.normalize(text_embeddings(pipeline), dim=1)
    matrix = (unit @ unit.T).tolist()
    return {a: {b: round(matrix[i][j], 4) for j, b in enumerate(names)} for i, a in enumerate(names)}
