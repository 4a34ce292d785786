"""Miniature copies of the three official archives, as they unpack: the same files and lists, small drawn pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from bench.worlds.natural.photographs.birds import BIRDS
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.flowers import FLOWERS

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


def drawn(domain: str, index: int, count: int, side: int) -> list[bytes]:
    """The class `index`, `count` times, as JPEG files."""
    rng = np.random.default_rng([DOMAINS.index(domain), index])
    colours, (across, down) = rng.integers(0, 256, (2, 3)), rng.uniform(-1.2, 1.2, 2)
    number, y, x = np.ogrid[0:count, 0:side, 0 : side + side // 4]
    wave = (np.sin(x * across + y * down + number) + 1)[..., None] / 2
    files = []
    for pixels in (colours[1] + wave * (colours[0] - colours[1])).astype(np.uint8):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        files.append(stream.getvalue())
    return files


def _dogs(root: Path, folders: Sequence[str], train: int, test: int, side: int) -> None:
    listed: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for index, folder in enumerate(folders):
        (root / "Images" / folder).mkdir(parents=True)
        for number, picture in enumerate(drawn("dogs", index, train + test, side)):
            name = f"{folder}/{folder.split('-')[0]}_{number + 10}.jpg"
            (root / "Images" / name).write_bytes(picture)
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
    pictured = [drawn("flowers", index, train + test, side) for index in range(classes)]
    for number, pictures in enumerate(zip(*pictured, strict=True)):
        for label, picture in enumerate(pictures, start=1):
            labels.append(label)
            split["tstid" if number >= train else ("trnid", "valid")[number % 2]].append(len(labels))
            (root / "jpg" / f"image_{len(labels):05d}.jpg").write_bytes(picture)
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(root / "setid.mat", {name: np.array([ids], dtype=np.uint16) for name, ids in split.items()})


def _birds(root: Path, names: Sequence[str], train: int, test: int, side: int) -> None:
    images, labels, split = [], [], []
    for index, name in enumerate(names):
        (root / "images" / name).mkdir(parents=True)
        for number, picture in enumerate(drawn("birds", index, train + test, side)):
            images.append(f"{name}/{name.split('.')[-1]}_{number + 1:04d}_{796000 + len(images)}.jpg")
            labels.append(index + 1)
            split.append(int(number < train))
            (root / "images" / images[-1]).write_bytes(picture)
    _lines(root / "classes.txt", names)
    _lines(root / "images.txt", images)
    _lines(root / "image_class_labels.txt", labels)
    _lines(root / "train_test_split.txt", split)


def _lines(file: Path, values: Sequence[object]) -> None:
    file.write_text("".join(f"{number} {value}\n" for number, value in enumerate(values, start=1)))
