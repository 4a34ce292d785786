"""Photographs of dogs, flowers and birds: the training images, the test images, and images as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from bench.worlds import data_folder
from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs import layouts
from bench.worlds.natural.photographs.birds import BIRDS
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.flowers import FLOWERS
from bench.worlds.natural.photographs.layouts import Photo, unavailable
from bench.worlds.pictures import picture

DOMAINS = ("dogs", "flowers", "birds")
LABELS = {"dogs": tuple(BREEDS.values()), "flowers": FLOWERS, "birds": tuple(BIRDS.values())}
LAYOUTS = {"dogs": layouts.dogs, "flowers": layouts.flowers, "birds": layouts.birds}


@dataclass(frozen=True)
class Photographs:
    """The images of one domain.

    Args:
        domain: one of DOMAINS.
        labels: the concepts' names, in the order of the data set's classes.
        train: the published training split, as (file, index into labels). For flowers it includes the validation split.
        test: the published test split, as (file, index into labels), in its published order.
    """

    domain: str
    labels: tuple[str, ...]
    train: tuple[Photo, ...]
    test: tuple[Photo, ...]


def read(domain: str, data: Path) -> Photographs:
    """Read the lists of `domain` in `data`. Every listed image exists, and every class has images in both splits.

    `read` does not open the images, so it does not find damaged images; `picture` finds them. Raises WorldUnavailable
    if a list or an image is missing, if a class has no image in a split, or if the lists contradict each other or the
    official classes. Raises ValueError for an unknown domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}; known: {', '.join(DOMAINS)}")
    labels = LABELS[domain]
    train, test = LAYOUTS[domain](data)
    _all_there(data, train + test)
    for split, photos in (("training", train), ("test", test)):
        pictured = {label for _, label in photos}
        empty = [name for label, name in enumerate(labels) if label not in pictured]
        if empty:
            found = f"{len(empty)} classes of {domain} have no {split} picture, {empty[0]!r} first"
            raise unavailable(data, found, "one or more of each class")
    return Photographs(domain, labels, tuple(train), tuple(test))


def reference(photos: Photographs, label: int, count: int, side: int) -> torch.Tensor:
    """The first `count` test images of the class with index `label`, uint8 (count, 3, side, side).

    Raises WorldUnavailable if the class has fewer test images, or if one of them is missing or damaged.
    """
    files = [path for path, of in photos.test if of == label]
    if len(files) < count:
        fewest = min(Counter(of for _, of in photos.test).values())
        raise WorldUnavailable(
            f"{photos.labels[label]!r} has {len(files)} test pictures and {count} are asked for; no class of "
            f"{photos.domain} has fewer than {fewest}: --set protocol.reference_per_concept={fewest}"
        )
    return torch.stack([picture(path, side) for path in files[:count]])


def _all_there(data: Path, photos: Sequence[Photo]) -> None:
    """Check that every image exists, and that the lists contain every image only once.

    So an image can't be both a training image and a test image. Raises WorldUnavailable.
    """

    @cache
    def within(folder: Path) -> frozenset[str]:  # one call per folder; network disks are slow
        return frozenset(data_folder.names(folder, data)) if folder.is_dir() else frozenset()

    files = [path for path, _ in photos]
    missing = [path for path in files if path.name not in within(path.parent)]
    if missing:
        found = f"no such picture; {len(missing)} of {len(files)} are missing"
        raise unavailable(missing[0], found, "every picture that the lists name")
    twice = [path for path, times in Counter(files).items() if times > 1]
    if twice:
        raise unavailable(twice[0], f"listed twice, as {len(twice)} pictures are", "each picture in one split, once")
