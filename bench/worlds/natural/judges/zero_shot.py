"""Contrastive models of pictures and captions as judges, with open_clip: no training, one sentence a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.worlds.base import Judge
from bench.worlds.open_clip_models import create
from bench.worlds.preprocessing import Preprocessing

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "db304140d62b8ed2fc472efab621e6ae33430653a0bf36893ba88ce3fe853612"

TEMPLATES = (
    "a photo of a {name}, a type of {kind}.",
    "a close-up photo of a {name}, a type of {kind}.",
    "a good photo of the {name}, a type of {kind}.",
)


class ZeroShot(nn.Module):
    """Preprocessing, the image tower, and the cosine with each label's sentence, scaled."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, head: nn.Linear) -> None:
        super().__init__()
        self.preprocessing, self.model, self.head = preprocessing, model, head

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.model.encode_image(self.preprocessing(pictures), normalize=True))  # type: ignore[operator]


def load(name: str, labels: Sequence[str], kind: str, device: torch.device) -> Judge:
    """The model called `name`, asked which of `labels` a picture shows.

    Args:
        name: as `create` takes it.
        kind: what every label is one of: "dog", "flower", "bird".

    Raises WorldUnavailable for an unknown model and for weights that can't be had or don't fit.
    """
    model, tokenizer, preprocessing = create(name)
    model = model.to(device)
    head = sentences(model, tokenizer, labels, kind).to(device)
    module = ZeroShot(model, preprocessing, head)
    return Judge(tuple(labels), module.eval().requires_grad_(False).to(device), head)


@torch.no_grad()
def sentences(model: Any, tokenizer: Any, labels: Sequence[str], kind: str) -> nn.Linear:
    """A layer whose rows are the labels' sentences: each the mean of TEMPLATES, of unit length, times the scale."""
    device = model.logit_scale.device
    rows = []
    for label in labels:
        texts = tokenizer([template.format(name=label, kind=kind) for template in TEMPLATES]).to(device)
        rows.append(model.encode_text(texts, normalize=True).mean(0))
    weight = nn.functional.normalize(torch.stack(rows), dim=1) * model.logit_scale.exp()
    bias = getattr(model, "logit_bias", None)  # of models trained as SigLIP is
    head = nn.Linear(weight.shape[1], len(labels), bias=bias is not None)
    head.weight.copy_(weight)
    if bias is not None:
        head.bias.fill_(float(bias))
    return head
