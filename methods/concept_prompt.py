"""One prompt for all concepts to forget, for methods that take a single prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.backbones.pipeline import Backbone


def joined(backbone: Backbone, concepts: Sequence[str]) -> str:
    """The words for all concepts, separated by commas.

    Raises ValueError if the text encoder does not read the whole prompt: concepts at its end would not be forgotten.
    """
    prompt, tokenizer = ", ".join(concepts), backbone.pipeline.tokenizer
    count, most = len(tokenizer(prompt, verbose=False).input_ids), tokenizer.model_max_length
    if count > most:
        raise ValueError(
            f"the prompt for the {len(concepts)} concepts to forget has {count} tokens, and the text encoder reads "
            f"{most}: {prompt!r}; forget fewer concepts at once"
        )
    return prompt
