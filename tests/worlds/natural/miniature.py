"""Miniature copies of the three official archives, as they unpack: the same files and lists, small drawn pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from bench.worlds.natural.birds import BIRDS
from bench.worlds.natural.dogs import BREEDS
from bench.worlds.natural.flowers import FLOWERS

OFFICIAL: Mapping[str, Sequence[str]] = {"dogs": tuple(BREEDS), "flowers": FLOWERS, "birds": tuple(BIRDS)}
DOMAINS = tuple(OFFICIAL)


def write(
    data: Path,
    per_class_train: int = 2,
    per_class_test: int = 3,
    side: int = 32,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """All three archives under `data`, which it returns.

    Pictures are `side` high and a quarter wider; every class has its own colour and stripes, every picture its own
    shift of them. `classes`: domain -> what its classes are called in the archive, the official ones by default.
    """
    called = {**OFFICIAL, **(classes or {})}
    _dogs(data / "stanford-dogs", called["dogs"], per_class_train, per_class_test, side)
    _flowers(data / "flowers-102", len(called["flowers"]), per_class_train, per_class_test, side)
    _birds(data / "CUB_200_2011", called["birds"], per_class_train, per_class_test, side)
    return data


def draw(file: Path, domain: str, index: int, number: int, side: int) -> None:
    """Picture `number` of the class `index`."""
    rng = np.random.default_rng([DOMAINS.index(domain), index])
    colours, (across, down) = rng.integers(0, 256, (2, 3)), rng.uniform(-1.2, 1.2, 2)
    y, x = np.ogrid[0:side, 0 : side + side // 4]
    wave = (np.sin(x * across + y * down + number) + 1)[..., None] / 2
    pixels = colours[1] + wave * (colours[0] - colours[1])
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def _dogs(root: Path, folders: Sequence[str], train: int, test: int, side: int) -> None:
    listed: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for index, folder in enumerate(folders):
        (root / "Images" / folder).mkdir(parents=True)
        for number in range(train + test):
            name = f"{folder}/{folder.split('-')[0]}_{number + 10}.jpg"
            draw(root / "Images" / name, "dogs", index, number, side)
            listed["train" if number < train else "test"].append((name, index + 1))
    for split, rows in listed.items():
        names = [name for name, _ in rows]
        variables = {
            "file_list": _cells(names),
            "annotation_list": _cells([name.removesuffix(".jpg") for name in names]),
            "labels": np.array([[label] for _, label in rows], dtype=np.uint8),
        }
        savemat(root / f"{split}_list.mat", variables)


def _cells(texts: Sequence[str]) -> np.ndarray:
    """A column of strings as MATLAB's cell array."""
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    return cells


def _flowers(root: Path, classes: int, train: int, test: int, side: int) -> None:
    """Training pictures are shared out between trnid and valid; pictures of a class don't follow on each other."""
    labels: list[int] = []
    split: dict[str, list[int]] = {"trnid": [], "valid": [], "tstid": []}
    (root / "jpg").mkdir(parents=True)
    for number in range(train + test):
        for index in range(classes):
            labels.append(index + 1)
            split["tstid" if number >= train else ("trnid", "valid")[number % 2]].append(len(labels))
            draw(root / "jpg" / f"image_{len(labels):05d}.jpg", "flowers", index, number, side)
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(root / "setid.mat", {name: np.array([ids], dtype=np.uint16) for name, ids in split.items()})


def _birds(root: Path, names: Sequence[str], train: int, test: int, side: int) -> None:
    images, labels, split = [], [], []
    for index, name in enumerate(names):
        (root / "images" / name).mkdir(parents=True)
        for number in range(train + test):
            images.append(f"{name}/{name.split('.')[-1]}_{number + 1:04d}_{796000 + len(images)}.jpg")
            labels.append(index + 1)
            split.append(int(number < train))
            draw(root / "images" / images[-1], "birds", index, number, side)
    _lines(root / "classes.txt", names)
    _lines(root / "images.txt", images)
    _lines(root / "image_class_labels.txt", labels)
    _lines(root / "train_test_split.txt", split)


def _lines(file: Path, values: Sequence[object]) -> None:
    file.write_text("".join(f"{number} {value}\n" for number, value in enumerate(values, start=1)))
