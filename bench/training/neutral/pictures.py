"""Draws pictures of abstract patterns with captions.

They are data for fine-tuning that does not show a concept of any world.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from PIL import Image

from bench.training.neutral.patterns import PATTERNS, SHADES, Grid, levels

# Maximum number of letters of unknown words for a byte-level tokenizer with 24 tokens, including the start and the end.
LETTERS = 22
APART = 160  # smallest sum of the differences in red, green and blue between two colours of a picture
JITTER = 10  # largest random change of each of red, green and blue, in 0..255
# Name -> red, green and blue. The names must not occur in a species, style or object of the pocket world or of
# UnlearnCanvas, so red, blue, grey and gold are missing. The tones are muted, since the VAE of the pocket model was
# trained on few colours.
COLOURS = {
    "white": (246, 246, 244), "black": (24, 22, 34), "green": (88, 130, 84), "teal": (44, 122, 142),
    "navy": (26, 40, 106), "pink": (232, 166, 166), "purple": (106, 66, 128), "orange": (236, 146, 66),
    "yellow": (246, 208, 108), "brown": (124, 74, 46), "lime": (198, 216, 136), "tan": (206, 174, 130),
    "cyan": (114, 186, 214), "maroon": (120, 18, 40), "cream": (250, 238, 210), "olive": (130, 120, 74),
}  # fmt: skip


def drawn(count: int, side: int, seed: int = 0) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The first `count` pictures of `seed`, uint8 (count, 3, side, side), and their captions.

    The pictures use the patterns of `PATTERNS` in turn. The i-th picture has the same caption and design at every size.
    A caption names every colour of its picture. It has at most `LETTERS` characters, not counting spaces.

    Args:
        count: number of pictures, at least 1.
        side: width and height in pixels, at least 1.
        seed: other seeds give other pictures.

    Raises ValueError if `count` or `side` is less than 1.

    Example:
        >>> pictures, captions = drawn(2, 32)
        >>> pictures.shape, captions
        (torch.Size([2, 3, 32, 32]), ('stripes in pink and teal', 'rings in green and navy'))
    """
    if count < 1 or side < 1:
        raise ValueError(f"count and side must be at least 1; found {count} and {side}")
    pairs = [_picture(index, side, random.Random(f"unrelated/{seed}/{index}")) for index in range(count)]
    return torch.from_numpy(np.stack([picture for picture, _ in pairs])), tuple(caption for _, caption in pairs)


def _picture(index: int, side: int, rng: random.Random) -> tuple[np.ndarray, str]:
    noun = tuple(PATTERNS)[index % len(PATTERNS)]
    pattern = PATTERNS[noun]
    while True:
        # three colours are drawn more often than two, since most captions with three colours are too long
        names = rng.sample(tuple(COLOURS), rng.choice((2, 3, 3, 3, 3, 3)))
        size = rng.choice(tuple(pattern.sizes))
        caption = _caption(noun, size, names, pattern.on_ground, rng.random() < 0.3)
        if _apart(names) and len(caption.replace(" ", "")) <= LETTERS:
            break
    palette = [[min(255, max(0, part + rng.randint(-JITTER, JITTER))) for part in COLOURS[name]] for name in names]
    zoom = 4 if side <= 128 else 2
    big = _coloured(levels(pattern, size, len(names), side * zoom, rng), palette)
    return np.array(Image.fromarray(big).reduce(zoom)).transpose(2, 0, 1), caption


def _apart(names: Sequence[str]) -> bool:
    pairs = combinations([COLOURS[name] for name in names], 2)
    return all(sum(abs(p - q) for p, q in zip(a, b, strict=True)) >= APART for a, b in pairs)


def _coloured(level: Grid, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """The levels of a pattern as RGB, uint8 (H, W, 3)."""
    colours = np.array([*palette, palette[-1]], dtype=np.int64)  # the highest level also needs a next colour
    index, part = level // SHADES, (level % SHADES)[..., None]
    return ((colours[index] * (SHADES - part) + colours[index + 1] * part) // SHADES).astype(np.uint8)


def _caption(noun: str, size: str, names: Sequence[str], on_ground: bool, turned: bool) -> str:
    """The caption of a picture. If `on_ground`, the first of `names` is the colour of the background."""
    if on_ground:
        return f"{size} {_listed(names[1:])} {noun} on {names[0]}".strip()
    return (f"{size} {noun} in {_listed(names)}" if turned else f"{size} {_listed(names)} {noun}").strip()


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
