"""Data sets of rendered images. Each split has fixed seeds, is rendered once and is kept as a memory-mapped array.

The splits share no seeds. The training images of the judges, the test images of the judges and the reference images of
FID are therefore images that the diffusion model never saw.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES

Split = Literal["model", "judge", "held_out", "reference"]
FIRST_SEED: dict[Split, int] = {"model": 0, "judge": 10_000_000, "held_out": 20_000_000, "reference": 30_000_000}


def plan(
    split: Split, per_species: int, photo_share: float, without: tuple[str, ...] = ()
) -> list[tuple[int, int, int]]:
    """(species index, style index, seed) of every image, with species and styles interleaved evenly.

    `photo_share` is the share of each species' images in the plain style. The other styles have equal shares of the
    other images. The data set leaves out the species in `without`.
    """
    rows = []
    for i in range(per_species):
        # image i of a species is plain if the share of plain images so far is below `photo_share`
        plain = round((i + 1) * photo_share) > round(i * photo_share)
        others = i - round(i * photo_share)
        style = 0 if plain else 1 + others % (len(STYLES) - 1)
        rows += [(k, style, FIRST_SEED[split] + i) for k, name in enumerate(NAMES) if name not in without]
    return rows


def _render(job: tuple[int, int, int]) -> np.ndarray:
    species, style, seed = job
    return render(NAMES[species], STYLES[style], seed)


@cache
def drawing_digest() -> str:
    """Digest of the rendered images of every species in every style at one seed, 16 hex digits.

    The names of cache files contain it, so that a data set never mixes images of two versions of the drawing code.
    """
    drawn = (render(name, style, 11).tobytes() for name in NAMES for style in STYLES)
    return hashlib.sha256(b"".join(drawn)).hexdigest()[:16]


def place(folder: Path, split: Split, per_species: int, photo_share: float, without: tuple[str, ...] = ()) -> Path:
    """The file in `folder` in which `pictures` keeps the images of these arguments."""
    spec = json.dumps([drawing_digest(), split, per_species, photo_share, sorted(without)])
    return folder / f"{split}-{hashlib.sha256(spec.encode()).hexdigest()[:12]}.npy"


def pictures(
    folder: Path,
    split: Split,
    per_species: int,
    photo_share: float,
    without: tuple[str, ...] = (),
    workers: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 64, 64, 3), memory-mapped, and labels int64 (N, 2): species and style index.

    On the first call, `workers` processes (default: one per core) render the images and write them to a file in
    `folder`. Later calls read the file.
    """
    jobs = plan(split, per_species, photo_share, without)
    file = place(folder, split, per_species, photo_share, without)
    labels = np.array([job[:2] for job in jobs], dtype=np.int64)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}.part")
        out = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=(len(jobs), 64, 64, 3))
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            done = pool.map(_render, jobs, chunksize=64)
            for i, image in enumerate(tqdm(done, total=len(jobs), desc=f"rendering ({split})", unit="picture")):
                out[i] = image
        out.flush()
        os.replace(draft, file)
    return np.load(file, mmap_mode="r"), labels
