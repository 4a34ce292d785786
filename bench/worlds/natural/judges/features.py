"""What a frozen network makes of photographs, computed once and kept, so that a broken-off run goes on from there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.core import device, digest
from bench.worlds.natural.photographs.reader import picture
from bench.worlds.preprocessing import Preprocessed

Photo = tuple[Path, int]
CHUNK = 512  # pictures a file; what an interruption costs at most


class Pictures(Dataset):
    """Photographs as squares of `side` pixels, uint8 (3, side, side), and their labels."""

    def __init__(self, photos: Sequence[Photo], side: int) -> None:
        self.photos, self.side = photos, side

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.photos[index]
        return picture(path, self.side), label


def batches(photos: Sequence[Photo], side: int, size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures as floats in [0, 1], (B, 3, side, side), and labels, int64 (B,), on the CPU, in order."""
    for pictures, labels in DataLoader(Pictures(photos, side), size, num_workers=workers):
        yield pictures.float() / 255, labels


def identity(body: Preprocessed, photos: Sequence[Photo], side: int) -> str:
    """Digest of what determines features: network, preprocessing, the pictures' files and sizes in bytes, and side."""
    files = [[path.as_posix(), path.stat().st_size] for path, _ in photos]
    return digest.of_json([digest.of_tensors(body.state_dict()), files, side])


@torch.inference_mode()
@device.exact()
def features(body: Preprocessed, photos: Sequence[Photo], side: int, size: int, workers: int, cache: Path) -> Tensor:
    """What `body` makes of each photograph, float32 (N, D), on the CPU.

    Args:
        body: a network without its classifier, in eval mode, on the device to compute on.
        side: of the squares that photographs are made into.
        size: pictures at a time; memory only.
        workers: processes that read pictures.
        cache: folder for what is computed, CHUNK pictures a file; whatever is there is taken from there.
    """
    from tqdm import tqdm

    folder = cache / identity(body, photos, side)[:32]
    folder.mkdir(parents=True, exist_ok=True)
    device = next(body.parameters()).device
    parts = []
    with tqdm(total=len(photos), desc="features", unit="picture") as bar:
        for start in range(0, len(photos), CHUNK):
            some = photos[start : start + CHUNK]
            file = folder / f"{start:06d}.safetensors"
            part = _stored(file, len(some))
            if part is None:
                seen = []
                for pictures, _ in batches(some, side, size, workers):
                    seen.append(body(pictures.to(device)).float().cpu())
                    bar.update(len(pictures))
                part = torch.cat(seen)
                work = file.with_suffix(f".{os.getpid()}.new")
                save_file({"features": part}, work)
                os.replace(work, file)
            else:
                bar.update(len(some))
                bar.initial += len(some)  # these cost nothing: the time to go follows from the others
            parts.append(part)
    return torch.cat(parts)


def _stored(file: Path, count: int) -> Tensor | None:
    """Features of `count` pictures in `file`, if they are there and whole."""
    try:
        found = load_file(file)["features"]
    except (OSError, KeyError, SafetensorError):
        return None
    return found if len(found) == count else None
