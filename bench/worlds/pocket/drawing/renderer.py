"""The renderer of the pocket world: `render(species, style, seed)` draws one image."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from bench.worlds.pocket.drawing import birds, dogs, flowers
from bench.worlds.pocket.drawing.pen import SIZE
from bench.worlds.pocket.drawing.scene import Draw, compose
from bench.worlds.pocket.drawing.species import DOMAIN_OF, find
from bench.worlds.pocket.drawing.styles import apply, find_style

# Raise it when an image changes: cache keys of reference images then change. Version 1 is not part of a key.
VERSION = 1

DRAW: dict[str, Draw] = {"dog": dogs.draw, "flower": flowers.draw, "bird": birds.draw}


def render(species: str, style: str = "photo", seed: int = 0) -> np.ndarray:
    """An image of `species` in `style`: uint8 RGB, shape (64, 64, 3).

    Pose, size, position, mirroring, background and light depend only on (species, seed). The same seed in another style
    therefore gives the same scene in that style. The bytes are the same on every machine.

    Raises ValueError for an unknown species or style. The error lists the nearest known names.
    """
    row, style = find(species), find_style(style)
    key = hashlib.sha256(f"{species}/{seed}".encode()).digest()
    rng = random.Random(int.from_bytes(key[:8], "big"))
    domain = DOMAIN_OF[species]
    picture, subject = compose(domain, row, DRAW[domain], rng)
    finished = apply(style, picture, subject, random.Random(int.from_bytes(key[8:16], "big")))
    if finished.size != (SIZE, SIZE):
        finished = finished.reduce(finished.width // SIZE)
    return np.asarray(finished)
