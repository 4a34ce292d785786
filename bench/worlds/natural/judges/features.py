"""Features of photographs from a frozen network. They are cached, so that an interrupted run can resume."""

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
from bench.worlds import pictures as pictures_module
from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs.reader import picture
from bench.worlds.preprocessing import Preprocessed

Photo = tuple[Path, int]
CHUNK = 512  # images per cache file; an interruption loses at most the features of this many images


class Pictures(Dataset):
    """A dataset of (photograph, label). A photograph is a square, uint8 (3, side, side)."""

    def __init__(self, photos: Sequence[Photo], side: int) -> None:
        self.photos, self.side = photos, side

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.photos[index]
        return picture(path, self.side), label


def batches(photos: Sequence[Photo], side: int, size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images, float32 in [0, 1], (B, 3, side, side), and labels, int64 (B,), on the CPU.

    Args:
        side: pixels; each image is a square.
        size: images per batch.
        workers: processes that read images.

    The order is the order of `photos`. Raises WorldUnavailable for a missing or damaged photograph.
    """
    for pictures, labels in loaded(DataLoader(Pictures(photos, side), size, num_workers=workers)):
        yield pictures.float() / 255, labels


def loaded(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader of photographs. If one is damaged, the error has no traceback of the loader's process."""
    try:
        yield from loader
    except WorldUnavailable as error:
        raise WorldUnavailable(str(error).rpartition("WorldUnavailable: ")[2].strip()) from error


def identity(body: Preprocessed, photos: Sequence[Photo], side: int) -> str:
    """The cache key of features: a digest of the network, preprocessing, `side`, and the bytes of the images.

    It also contains the version of the code that reads images.
    """
    files = [digest.of_file(path) for path, _ in photos]
    return digest.of_json([digest.of_tensors(body.state_dict()), files, side, digest.of_module(pictures_module)])


@torch.inference_mode()
@device.exact()
def features(body: Preprocessed, photos: Sequence[Photo], side: int, size: int, workers: int, cache: Path) -> Tensor:
    """The features of each photograph from `body`, float32 (N, D), on the CPU.

    Args:
        body: a network without its classifier, in eval mode. The features are computed on its device.
        side: pixels. Each photograph is cropped to a square and resized to this side.
        size: images per batch. It affects the use of memory only.
        workers: processes that read images.
        cache: folder for the features, with one file for every CHUNK images. Cached features are not computed again.

    Raises WorldUnavailable for a missing or damaged photograph.
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
                bar.initial += len(some)  # cached images take no time, so the estimated time excludes them
            parts.append(part)
    return torch.cat(parts)


def _stored(file: Path, count: int) -> Tensor | None:
    """The features of `count` images in `file`, (count, D). None if the file is missing, damaged or incomplete."""
    try:
        found = load_file(file)["features"]
    except (OSError, KeyError, SafetensorError):
        return None
    return found if len(found) == count else None
