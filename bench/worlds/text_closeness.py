"""How close two concepts are to a backbone's own text encoder, which decides what forgetting one does to the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bench.worlds.base import WorldUnavailable


class TextCloseness:
    """(a, b) -> cosine of the encoder's final states at the end token, mean over prompts that differ in a and b alone.

    The encoder is loaded on the first call, on the CPU in fp32, and each concept's prompts are encoded once.

    Args:
        folder: () -> that of a Stable-Diffusion-format pipeline.
        prompts: concept -> prompts that ask for it; the i-th of two concepts differ in their names alone.
    """

    def __init__(self, folder: Callable[[], Path], prompts: Callable[[str], Sequence[str]]) -> None:
        self._folder, self._prompts = folder, prompts
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, a: str, b: str) -> float:
        """At most 1, and 1 for one and itself. Raises WorldUnavailable."""
        if a == b:
            return 1.0
        return float((self.states(a) * self.states(b)).sum(1).mean())

    @torch.inference_mode()
    def states(self, concept: str) -> torch.Tensor:
        """States of the concept's prompts, of unit length: float32 (prompts, width)."""
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
        from transformers import CLIPTextModel, CLIPTokenizer, logging  # seconds to import; lists need none of it

        logging.disable_progress_bar()
        folder = self._folder()
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
        except (OSError, ValueError) as error:
            raise WorldUnavailable(f"{folder} has no CLIP text encoder that can be loaded: {error}") from error
        return tokenizer, encoder.eval().requires_grad_(False).float()
