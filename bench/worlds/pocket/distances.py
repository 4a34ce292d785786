"""How near two species are: by the table that draws them, and by the text encoder that names them."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionPipeline

from . import text
from .captions import EVALUATE, caption
from .species import NAMES, SPECIES, attribute_distance

Table = dict[str, dict[str, float]]


def attribute_distances() -> Table:
    """`attribute_distance` of every pair, 0 (same row) to 1."""
    return {a: {b: round(attribute_distance(SPECIES[a], SPECIES[b]), 4) for b in NAMES} for a in NAMES}


@torch.no_grad()
def text_embeddings(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    """Final text state at the end token, mean over the evaluation templates: (number of species, width)."""
    encoder, tokenizer = pipeline.text_encoder, pipeline.tokenizer
    ids = text.tokenize(tokenizer, [caption(t, name) for name in NAMES for t in EVALUATE]).to(encoder.device)
    states = encoder(ids).last_hidden_state.float()
    end = (ids == tokenizer.eos_token_id).int().argmax(1)
    return states[torch.arange(len(ids)), end].view(len(NAMES), len(EVALUATE), -1).mean(1)


def text_cosines(pipeline: StableDiffusionPipeline) -> Table:
    """Cosine of `text_embeddings` for every pair, at most 1."""
    unit = torch.nn.functional.normalize(text_embeddings(pipeline), dim=1)
    matrix = (unit @ unit.T).tolist()
    return {a: {b: round(matrix[i][j], 4) for j, b in enumerate(NAMES)} for i, a in enumerate(NAMES)}
