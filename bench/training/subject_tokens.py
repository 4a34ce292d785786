"""Where a prompt names its subject: positions in the text encoder's output, for methods that edit by text states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def last_subject_token(tokenizer: Any, prompt: str, words: str) -> int:
    """The position of the last token of `words` in a prompt, counted from the start token at 0.

    Args:
        tokenizer: the CLIP tokenizer of the pipeline.
        prompt: the prompt.
        words: the words that name the subject, as the prompt writes them. If the prompt names it twice, the last
            name counts.

    Raises ValueError if the prompt, as the text encoder sees it, does not name the subject.

    Example:
        >>> last_subject_token(tokenizer, "a photo of a blue jay", "blue jay")
        6
    """
    ids, name = _ids(tokenizer, prompt), _ids(tokenizer, words)[1:-1]
    starts = [i for i in range(len(ids) - len(name) + 1) if name and ids[i : i + len(name)] == name]
    if not starts:
        raise ValueError(f"the prompt {prompt!r} does not name its subject {words!r}")
    return starts[-1] + len(name) - 1


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, from the start token to the end token, as many as the text encoder takes."""
    ids: Sequence[int] = tokenizer(text, truncation=True).input_ids
    return [*ids]
