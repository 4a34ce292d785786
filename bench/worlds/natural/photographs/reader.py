"""Photographs of dogs, flowers and birds: what to learn from, what to test with, and each as a tensor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

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
    """The pictures of one domain.

    Args:
        domain: one of DOMAINS.
        labels: the classes' names for prompts, in the data set's own order.
        train: the published training split, (file, index into labels); of flowers with the validation split.
        test: the published test split, in its published order.
    """

    domain: str
    labels: tuple[str, ...]
    train: tuple[Photo, ...]
    test: tuple[Photo, ...]


def read(domain: str, data: Path) -> Photographs:
    """What `data` has of `domain`, every listed picture there and every class with pictures in both splits.

    Pictures are not opened: a damaged one is found by `picture`. Raises WorldUnavailable where a list or a picture is
    missing or lists contradict each other or the official classes, ValueError for an unknown domain.
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
    """The first `count` test pictures of class `label`, uint8 (count, 3, side, side).

    Raises WorldUnavailable where the class has fewer, or where one is damaged.
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
    """Every picture is there, and none is listed twice: one that is learnt from can't be tested with."""

    @cache
    def within(folder: Path) -> frozenset[str]:  # one listing a folder: asking after each file is slow on a network
        return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()

    files = [path for path, _ in photos]
    missing = [path for path in files if path.name not in within(path.parent)]
    if missing:
        found = f"no such picture; {len(missing)} of {len(files)} are missing"
        raise unavailable(missing[0], found, "every picture that the lists name")
    twice = [path for path, times in Counter(files).items() if times > 1]
    if twice:
        raise unavailable(twice[0], f"listed twice, as {len(twice)} pictures are", "each picture in one split, once")
