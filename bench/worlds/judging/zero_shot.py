"""Zero-shot judges: contrastive image-text models of open_clip, with text prompts for each label and no training."""

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


class ZeroShot(nn.Module):
    """A network from float images in [0, 1], (B, 3, H, W), to logits, (B, labels).

    It preprocesses images and runs the image encoder. A logit is the scaled cosine of the image embedding and the text
    embedding of a label.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, head: nn.Linear) -> None:
        super().__init__()
        self.preprocessing, self.model, self.head = preprocessing, model, head

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.model.encode_image(self.preprocessing(pictures), normalize=True))  # type: ignore[operator]


def load(name: str, labels: Sequence[str], sentences: Sequence[Sequence[str]], device: torch.device) -> Judge:
    """Load the model `name` as a judge of `labels`, in eval mode, frozen, on `device`.

    Args:
        name: the name of a model, see `open_clip_models.create`.
        sentences: for each label, the sentences that describe it: a prompt ensemble.

    Raises WorldUnavailable for an unknown model, and for weights that can't be loaded or do not fit the model.
    """
    model, tokenizer, preprocessing = create(name)
    model = model.to(device)
    head = ensemble(model, tokenizer, sentences).to(device)
    module = ZeroShot(model, preprocessing, head)
    return Judge(tuple(labels), module.eval().requires_grad_(False).to(device), head)


@torch.no_grad()
def ensemble(model: Any, tokenizer: Any, sentences: Sequence[Sequence[str]]) -> nn.Linear:
    """A linear layer with one row for each label, (labels, D).

    A row is the mean text embedding of the label's `sentences`, normalised to unit length and multiplied by the model's
    scale (Radford et al., ICML 2021, section 3.1.4).
    """
    device = model.logit_scale.device
    rows = []
    for texts_of_label in sentences:
        texts = tokenizer(list(texts_of_label)).to(device)
        rows.append(model.encode_text(texts, normalize=True).mean(0))
    weight = nn.functional.normalize(torch.stack(rows), dim=1) * model.logit_scale.exp()
    bias = getattr(model, "logit_bias", None)  # models that were trained like SigLIP have a bias
    head = nn.Linear(weight.shape[1], len(sentences), bias=bias is not None)
    head.weight.copy_(weight)
    if bias is not None:
        head.bias.fill_(float(bias))
    return head
