"""Readers of the three unpacked official archives: training images, test images and the class of each image.

The readers check that the lists of an archive agree with each other. They do not check the number of images, so they
also read a part of an archive. The layouts follow the READMEs of the archives and public readers of the archives. The
full archives were not available to the authors of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.worlds import data_folder
from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs.birds import BIRDS
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.flowers import FLOWERS

Photo = tuple[Path, int]  # image file, index of the image's class
Lists = tuple[list[Photo], list[Photo]]  # train, test

ROOTS = {"dogs": "stanford-dogs", "flowers": "flowers-102", "birds": "CUB_200_2011"}  # folders in the data folder
PREPARE = "python run_bench.py prepare natural --data DIR"


def unavailable(what: Path, found: str, expected: str) -> WorldUnavailable:
    """The error for a part of the data that is missing or differs from the published data."""
    return WorldUnavailable(f"{what}: {found}; expected {expected}. `{PREPARE}` fetches what is missing and checks it.")


def dogs(data: Path) -> Lists:
    """The training and test images of Stanford Dogs.

    The images are stanford-dogs/Images/<folder>/*.jpg. The lists train_list.mat and test_list.mat are in stanford-dogs/
    or in stanford-dogs/lists/. The official splits have 12 000 training images (100 of each class) and 8 580 test
    images. Raises WorldUnavailable if a list is missing or damaged, or if the lists and the official classes disagree.
    All functions of this module raise this error.
    """
    root = data / ROOTS["dogs"]
    images = root / "Images"
    if not images.is_dir():
        raise unavailable(images, "no such folder", "one folder of pictures for each of 120 breeds")
    _same(images, [name for name in data_folder.names(images, data) if (images / name).is_dir()], BREEDS)
    order = {folder: index for index, folder in enumerate(BREEDS)}

    def listed(name: str) -> list[Photo]:
        file = next((f for f in (root / name, root / "lists" / name) if f.is_file()), root / name)
        entries, labels = map(str, _mat(file, "file_list")), _integers(file, "labels")
        photos = []
        for entry, label in _pairs(file, list(entries), labels):
            index = order.get(entry.split("/")[0])
            if index is None or label != index + 1:
                expected = "a breed's folder" if index is None else f"label {index + 1}"
                raise unavailable(file, f"lists {entry!r} with label {label}", expected)
            photos.append((images / entry, index))
        return photos

    return listed("train_list.mat"), listed("test_list.mat")


def flowers(data: Path) -> Lists:
    """The training and test images of Oxford Flowers-102.

    The layout is that of torchvision: flowers-102/{jpg/image_00001.jpg, imagelabels.mat, setid.mat}. The published
    split has three parts: ten training images of each class (trnid, 1 020 images), ten validation images of each class
    (valid, 1 020 images), and the remaining images as test images (tstid, 6 149 images). Lethe tunes nothing on the
    validation images, so it adds them to the training images. torchvision's own class can't read a part of the archive,
    because it requires the checksums of the full lists. Raises WorldUnavailable like `dogs`.
    """
    root = data / ROOTS["flowers"]
    labels = _integers(root / "imagelabels.mat", "labels")
    outside = [label for label in labels if not 1 <= label <= len(FLOWERS)]
    if outside:
        raise unavailable(root / "imagelabels.mat", f"has label {outside[0]}", f"labels from 1 to {len(FLOWERS)}")
    if len(set(labels)) != len(FLOWERS):
        raise unavailable(root / "imagelabels.mat", f"has {len(set(labels))} classes", f"{len(FLOWERS)}")

    def listed(name: str) -> list[Photo]:
        photos = []
        for number in _integers(root / "setid.mat", name):
            if not 1 <= number <= len(labels):
                found = f"{name} lists picture {number}"
                raise unavailable(root / "setid.mat", found, f"the {len(labels)} pictures that imagelabels.mat labels")
            photos.append((root / "jpg" / f"image_{number:05d}.jpg", labels[number - 1] - 1))
        return photos

    return listed("trnid") + listed("valid"), listed("tstid")


def birds(data: Path) -> Lists:
    """The training and test images of CUB-200-2011.

    The lists are CUB_200_2011/{classes,images,image_class_labels,train_test_split}.txt, and the images are
    CUB_200_2011/images/<class>/*.jpg. The official splits have 5 994 training images and 5 794 test images. Raises
    WorldUnavailable like `dogs`.
    """
    root = data / ROOTS["birds"]
    names = _rows(root / "classes.txt")
    _same(root / "classes.txt", list(names.values()), BIRDS)
    if list(names.items()) != list(enumerate(BIRDS, start=1)):
        raise unavailable(root / "classes.txt", "the classes are in another order", "1 to 200 by name")
    images = _rows(root / "images.txt")
    labels, split = (_rows(root / f"{name}.txt") for name in ("image_class_labels", "train_test_split"))
    for name, rows in (("image_class_labels.txt", labels), ("train_test_split.txt", split)):
        if rows.keys() != images.keys():
            found = f"lists {len(rows)} pictures, {len(rows.keys() ^ images.keys())} of them in one list alone"
            raise unavailable(root / name, found, f"the {len(images)} of images.txt")
    lists: Lists = ([], [])
    for number, file in images.items():
        folder = file.split("/")[0]
        label = int(labels[number]) if labels[number].isdecimal() else 0
        if names.get(label) != folder:
            found = f"picture {number} has label {labels[number]}"
            raise unavailable(root / "image_class_labels.txt", found, f"that of {folder!r}, where images.txt has it")
        if split[number] not in ("0", "1"):
            found = f"picture {number} has {split[number]!r}"
            raise unavailable(root / "train_test_split.txt", found, "1 to learn from or 0 to test with")
        lists[0 if split[number] == "1" else 1].append((root / "images" / file, label - 1))
    return lists


def _mat(file: Path, name: str) -> np.ndarray:
    """The variable `name` of a MATLAB file, without dimensions of size 1. A scalar becomes a vector."""
    from scipy.io import loadmat

    if not file.is_file():
        raise unavailable(file, "no such file", "a list of the official archive")
    try:
        variables = loadmat(file, squeeze_me=True)
    except Exception as error:  # scipy raises many types for damaged files
        raise unavailable(file, f"can't be read ({error})", "a MATLAB file") from error
    if name not in variables:
        found = ", ".join(key for key in variables if not key.startswith("__"))
        raise unavailable(file, f"holds {found or 'nothing'}", f"{name!r}")
    return np.atleast_1d(variables[name])


def _integers(file: Path, name: str) -> list[int]:
    values = _mat(file, name)
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.floor(values)):
        raise unavailable(file, f"{name!r} holds other things than whole numbers", "whole numbers")
    return [int(value) for value in values.ravel()]


def _rows(file: Path) -> dict[int, str]:
    """number -> word, from a text file with a number and a word on each line. The numbers are unique."""
    if not file.is_file():
        raise unavailable(file, "no such file", "a list of the official archive")
    rows: dict[int, str] = {}
    for line, text in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        number, _, word = text.strip().partition(" ")
        if not number.isdecimal() or not word or int(number) in rows:
            raise unavailable(file, f"line {line} is {text!r}", "a number of its own and a word")
        rows[int(number)] = word
    return rows


def _pairs(file: Path, entries: list[str], labels: list[int]) -> list[tuple[str, int]]:
    if len(entries) != len(labels):
        raise unavailable(file, f"lists {len(entries)} pictures and {len(labels)} labels", "one label a picture")
    return list(zip(entries, labels, strict=True))


def _same(where: Path, found: Sequence[str], expected: dict[str, str]) -> None:
    """Raise WorldUnavailable unless the classes `found` are the classes `expected`, in any order."""
    if len(found) != len(expected) or set(found) != set(expected):
        odd = [name for name in found if name not in expected][:3]
        lost = [name for name in expected if name not in found][:3]
        more = f", among them {', '.join(odd)}" if odd else ""
        without = f", with {', '.join(lost)}" if lost else ""
        raise unavailable(where, f"{len(found)} classes{more}", f"the {len(expected)} official ones{without}")
