"""The similarity of two concepts under the text encoder of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bench.worlds.base import WorldUnavailable


class TextCloseness:
    """(a, b) -> mean cosine of the text encoder's final states at the end token, over pairs of prompts of a and b.

    A pair consists of the i-th prompt of a and the i-th prompt of b. The encoder is loaded on the first call, on the
    CPU in fp32. Each concept's prompts are encoded once.

    Args:
        folder: () -> folder of a pipeline in Stable Diffusion's format.
        prompts: concept -> its prompts. The i-th prompts of two concepts differ only in the name of the concept.
    """

    def __init__(self, folder: Callable[[], Path], prompts: Callable[[str], Sequence[str]]) -> None:
        self._folder, self._prompts = folder, prompts
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, a: str, b: str) -> float:
        """The similarity of two concepts, in [-1, 1]. It is 1 if a == b.

        Raises WorldUnavailable if the text encoder can't be loaded.
        """
        if a == b:
            return 1.0
        return float((self.states(a) * self.states(b)).sum(1).mean())

    @torch.inference_mode()
    def states(self, concept: str) -> torch.Tensor:
        """The states of a concept's prompts, float32 (prompts, width). Each row has unit length.

        Raises WorldUnavailable if the text encoder can't be loaded.
        """
        if concept not in self._known:
            tokenizer, encoder = self._encoder
            given = tokenizer(
                list(self._prompts(concept)),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            found = encoder(given.input_ids).pooler_output
            self._known[concept] = torch.nn.functional.normalize(found.float(), dim=1)
        return self._known[concept]

    @cached_property
    def _encoder(self) -> tuple[Any, Any]:
        from transformers import CLIPTextModel, CLIPTokenizer, logging  # takes seconds; listing worlds doesn't need it

        logging.disable_progress_bar()
        folder = self._folder()
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
        except (OSError, ValueError) as error:
            raise WorldUnavailable(f"{folder} has no CLIP text encoder that can be loaded: {error}") from error
        return tokenizer, encoder.eval().requires_grad_(False).float()
