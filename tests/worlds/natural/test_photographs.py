"""Readers of the three archives, on miniature copies of them, whole and damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import miniature
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from torchvision.datasets import Flowers102

from bench.worlds.base import WorldUnavailable
from bench.worlds.natural.photographs.reader import DOMAINS, picture, read, reference

FOLDERS = {"dogs": "stanford-dogs", "flowers": "flowers-102", "birds": "CUB_200_2011"}
DOGS, FLOWERS, BIRDS = FOLDERS.values()
BIRD = "images/017.Cardinal/Cardinal_0001_796080.jpg"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature.write(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Callable[[str], Path]:
    """domain -> a folder with a copy of it that may be damaged; folders of pictures are links to those of the whole."""

    def build(domain: str) -> Path:
        source, target = whole / FOLDERS[domain], tmp_path / FOLDERS[domain]
        for file in source.iterdir():
            if file.is_file():
                target.mkdir(exist_ok=True)
                shutil.copyfile(file, target / file.name)
        for folder in (source / "jpg", *source.glob("[Ii]mages/*")):
            if folder.is_dir():
                link = target / folder.relative_to(source)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(folder)
        return tmp_path

    return build


@pytest.fixture
def cardinal(copy: Callable[[str], Path]) -> Path:
    """A picture in a copy of the birds that may be damaged itself."""
    file = copy("birds") / BIRDS / BIRD
    folder = file.parent.readlink()
    file.parent.unlink()
    shutil.copytree(folder, file.parent)
    return file


def change(file: Path, **variables: object) -> None:
    """Other values for some variables of a MATLAB file; None leaves one out."""
    kept = {name: value for name, value in loadmat(file).items() if not name.startswith("__")}
    savemat(file, {name: value for name, value in {**kept, **variables}.items() if value is not None})


def relabel(file: Path, entry: int, label: int) -> None:
    labels = loadmat(file)["labels"]
    labels.reshape(-1)[entry] = label
    change(file, labels=labels)


@pytest.mark.parametrize("domain", DOMAINS)
def test_read_gives_every_class_its_pictures_in_both_splits(whole: Path, domain: str) -> None:
    photos = read(domain, whole)
    assert photos.domain == domain
    for split, each in ((photos.train, 2), (photos.test, 3)):
        assert torch.bincount(torch.tensor([label for _, label in split])).tolist() == [each] * len(photos.labels)
        assert all(path.is_file() for path, _ in split)
    assert not {path for path, _ in photos.train} & {path for path, _ in photos.test}


def test_read_finds_the_pictures_drawn_for_a_class(whole: Path) -> None:
    """What a path says of its class is what was drawn there, and the label says the same."""
    for domain, name, index in (("dogs", "beagle", 11), ("flowers", "rose", 73), ("birds", "Mallard", 86)):
        photos = read(domain, whole)
        assert photos.labels[index] == name
        for split, drawn in ((photos.train, slice(0, 2)), (photos.test, slice(2, 5))):
            found = [path.read_bytes() for path, label in split if label == index]
            assert found == miniature.drawn(domain, index, 5, 32)[drawn]


def test_flowers_are_read_as_torchvision_reads_them(whole: Path) -> None:
    class Unchecked(Flowers102):
        def _check_integrity(self) -> bool:  # checksums of the full lists
            return True

    def theirs(split: str) -> list[tuple[Path, int]]:
        kept = Unchecked(whole, split)
        return list(zip(kept._image_files, kept._labels, strict=True))

    photos = read("flowers", whole)
    assert list(photos.train) == theirs("train") + theirs("val")
    assert list(photos.test) == theirs("test")


def test_what_operating_systems_leave_is_skipped_and_said_once(
    whole: Path, copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    data = copy("dogs")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (data / DOGS / "Images" / name).mkdir()
    for name in ("._n02085620-Chihuahua", ".DS_Store", "Thumbs.db"):
        (data / DOGS / "Images" / name).write_text("")
    for _ in range(2):
        train = [path.relative_to(data) for path, _ in read("dogs", data).train]
        assert train == [path.relative_to(whole) for path, _ in read("dogs", whole).train]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{data}: skipped 6 files and folders of an operating system")


def test_lists_of_the_dogs_may_lie_in_a_folder_of_their_own(copy: Callable[[str], Path]) -> None:
    data = copy("dogs")
    before = read("dogs", data)
    (data / DOGS / "lists").mkdir()
    for split in ("train", "test"):
        (data / DOGS / f"{split}_list.mat").rename(data / DOGS / "lists" / f"{split}_list.mat")
    assert read("dogs", data) == before


def test_an_unknown_domain_is_named(whole: Path) -> None:
    with pytest.raises(ValueError, match="unknown domain 'cats'; known: dogs, flowers, birds"):
        read("cats", whole)


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no archive": ("dogs", lambda d: shutil.rmtree(d / DOGS), r"Images: no such folder"),
    "no list of dogs": ("dogs", lambda d: (d / DOGS / "test_list.mat").unlink(), r"test_list.mat: no such file"),
    "no labels": ("flowers", lambda d: (d / FLOWERS / "imagelabels.mat").unlink(), r"imagelabels.mat: no such file"),
    "no split of flowers": ("flowers", lambda d: (d / FLOWERS / "setid.mat").unlink(), r"setid.mat: no such file"),
    "no split of birds": (
        "birds",
        lambda d: (d / BIRDS / "train_test_split.txt").unlink(),
        r"train_test_split.txt: no such file",
    ),
    "a list cut short": (
        "dogs",
        lambda d: os.truncate(d / DOGS / "train_list.mat", 300),
        r"train_list.mat: can't be read .*expected a MATLAB file",
    ),
    "a list without labels": (
        "dogs",
        lambda d: change(d / DOGS / "train_list.mat", labels=None),
        r"train_list.mat: holds file_list, annotation_list; expected 'labels'",
    ),
    "a label too few": (
        "dogs",
        lambda d: change(d / DOGS / "train_list.mat", labels=np.ones((239, 1))),
        r"lists 240 pictures and 239 labels",
    ),
    "a dog's wrong label": (
        "dogs",
        lambda d: relabel(d / DOGS / "test_list.mat", 0, 2),
        r"test_list.mat: lists 'n02085620-Chihuahua/n02085620_12.jpg' with label 2; expected label 1",
    ),
    "half a label": (
        "dogs",
        lambda d: change(d / DOGS / "test_list.mat", labels=np.full((360, 1), 1.5)),
        r"'labels' holds other things than whole numbers",
    ),
    "a breed too few": (
        "dogs",
        lambda d: (d / DOGS / "Images" / "n02088364-beagle").unlink(),
        r"Images: 119 classes; expected the 120 official ones, with n02088364-beagle",
    ),
    "a breed's other name": (
        "dogs",
        lambda d: (d / DOGS / "Images" / "n02088364-beagle").rename(d / DOGS / "Images" / "beagle"),
        r"120 classes, among them beagle; expected .*with n02088364-beagle",
    ),
    "a flower's label out of range": (
        "flowers",
        lambda d: relabel(d / FLOWERS / "imagelabels.mat", 0, 103),
        r"imagelabels.mat: has label 103; expected labels from 1 to 102",
    ),
    "a flower too few": (
        "flowers",
        lambda d: change(d / FLOWERS / "imagelabels.mat", labels=np.tile(np.arange(1, 102), 6)[None, :510]),
        r"imagelabels.mat: has 101 classes; expected 102",
    ),
    "fewer labels than pictures": (
        "flowers",
        lambda d: change(d / FLOWERS / "imagelabels.mat", labels=np.tile(np.arange(1, 103), 5)[None, :509]),
        r"setid.mat: tstid lists picture 510; expected the 509 pictures that imagelabels.mat labels",
    ),
    "a flower in two splits": (
        "flowers",
        lambda d: change(d / FLOWERS / "setid.mat", valid=np.arange(1, 103)),
        r"image_00001.jpg: listed twice, as 102 pictures are",
    ),
    "no training picture": (
        "flowers",
        lambda d: change(d / FLOWERS / "setid.mat", trnid=np.arange(2, 103), valid=np.arange(104, 205)),
        r"1 classes of flowers have no training picture, 'pink primrose' first",
    ),
    "no test picture": (
        "dogs",
        lambda d: change(
            d / DOGS / "test_list.mat",
            file_list=loadmat(d / DOGS / "test_list.mat")["file_list"][3:],
            labels=loadmat(d / DOGS / "test_list.mat")["labels"][3:],
        ),
        r"1 classes of dogs have no test picture, 'Chihuahua' first",
    ),
    "a bird too few": (
        "birds",
        lambda d: edit(d / BIRDS / "classes.txt", "200 200.Common_Yellowthroat\n", ""),
        r"classes.txt: 199 classes; expected the 200 official ones, with 200.Common_Yellowthroat",
    ),
    "a bird's other name": (
        "birds",
        lambda d: edit(d / BIRDS / "classes.txt", "017.Cardinal", "017.Kardinal"),
        r"200 classes, among them 017.Kardinal; expected .*with 017.Cardinal",
    ),
    "birds in another order": (
        "birds",
        lambda d: edit(d / BIRDS / "classes.txt", "17 017.Cardinal\n", "") or append(d / BIRDS / "classes.txt"),
        r"classes.txt: the classes are in another order",
    ),
    "a bird's wrong label": (
        "birds",
        lambda d: edit(d / BIRDS / "image_class_labels.txt", "\n81 17\n", "\n81 18\n"),
        r"image_class_labels.txt: picture 81 has label 18; expected that of '017.Cardinal'",
    ),
    "a bird's label out of range": (
        "birds",
        lambda d: edit(d / BIRDS / "image_class_labels.txt", "\n1000 200\n", "\n1000 201\n"),
        r"image_class_labels.txt: picture 1000 has label 201",
    ),
    "a bird in no list": (
        "birds",
        lambda d: edit(d / BIRDS / "train_test_split.txt", "\n81 1\n", "\n"),
        r"train_test_split.txt: lists 999 pictures, 1 of them in one list alone; expected the 1000 of images.txt",
    ),
    "a bird in a third split": (
        "birds",
        lambda d: edit(d / BIRDS / "train_test_split.txt", "\n81 1\n", "\n81 2\n"),
        r"train_test_split.txt: picture 81 has '2'; expected 1 to learn from or 0 to test with",
    ),
    "a line without a number": (
        "birds",
        lambda d: edit(d / BIRDS / "images.txt", "\n81 ", "\n"),
        r"images.txt: line 81 is '017.Cardinal/",
    ),
}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def append(file: Path) -> None:
    file.write_text(file.read_text() + "17 017.Cardinal\n")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_with_what_was_expected_and_what_to_do(copy: Callable[[str], Path], damage: str) -> None:
    domain, spoil, message = DAMAGE[damage]
    data = copy(domain)
    spoil(data)
    with pytest.raises(WorldUnavailable, match=message) as raised:
        read(domain, data)
    assert str(data) in str(raised.value)
    assert "`python run_bench.py prepare natural --data DIR`" in str(raised.value)


def test_a_missing_picture_is_named(cardinal: Path) -> None:
    cardinal.unlink()
    (cardinal.parent / cardinal.name.replace("0001_796080", "0002_796081")).unlink()
    with pytest.raises(WorldUnavailable, match=r"0001_796080.jpg: no such picture; 2 of 1000 are missing"):
        read("birds", cardinal.parents[3])


def test_a_truncated_picture_is_named(cardinal: Path) -> None:
    os.truncate(cardinal, cardinal.stat().st_size // 2)
    assert read("birds", cardinal.parents[3]).train, "pictures are not opened by reading lists"
    with pytest.raises(WorldUnavailable, match=r"0001_796080.jpg is cut short or no image"):
        picture(cardinal, 16)
    cardinal.write_bytes(b"<html>not found</html>")
    with pytest.raises(WorldUnavailable, match=r"0001_796080.jpg is cut short or no image"):
        picture(cardinal, 16)


def test_picture_is_the_centre_square_of_the_short_side(tmp_path: Path) -> None:
    """Three bands across, the middle one square: nothing of the others remains but what the filter mixes in."""
    bands = np.zeros((40, 120, 3), dtype=np.uint8)
    bands[:, :40], bands[:, 40:80], bands[:, 80:] = (255, 0, 0), (10, 200, 30), (0, 0, 255)
    Image.fromarray(bands).save(tmp_path / "wide.png")
    Image.fromarray(bands.transpose(1, 0, 2)).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        for side in (20, 40, 64):
            square = picture(tmp_path / name, side)
            assert square.shape == (3, side, side)
            assert square.dtype == torch.uint8
            assert square.is_contiguous()
            assert (square[:, 4:-4, 4:-4] == torch.tensor([10, 200, 30])[:, None, None]).all()


def test_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    halves = np.zeros((32, 32, 3), dtype=np.uint8)
    halves[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    Image.fromarray(halves).save(tmp_path / "turned.png", exif=exif)
    shown = picture(tmp_path / "turned.png", 32)
    assert shown[:, :, 16:].min() == 255
    assert shown[:, :, :16].max() == 0


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA"])
def test_picture_of_any_mode_is_rgb(tmp_path: Path, mode: str) -> None:
    """RGBA under the name of a JPEG is how the archive has one of the dogs."""
    file = tmp_path / "picture.jpg"
    grey = Image.new("RGB", (24, 24), (102, 102, 102))  # which a palette has
    grey.convert(mode).save(file, format="JPEG" if mode in ("L", "CMYK") else "PNG")
    shown = picture(file, 12)
    assert shown.shape == (3, 12, 12)
    assert (shown.int() - 102).abs().max() <= 3


def test_reference_takes_the_first_test_pictures_in_order(whole: Path) -> None:
    photos = read("dogs", whole)
    files = [path for path, label in photos.test if label == 5]
    three = reference(photos, 5, 3, 16)
    assert three.shape == (3, 3, 16, 16)
    assert three.dtype == torch.uint8
    assert torch.equal(three, torch.stack([picture(path, 16) for path in files]))
    assert torch.equal(reference(photos, 5, 2, 16), three[:2])
    assert not torch.equal(three[0], three[1])


def test_reference_says_how_many_there_are(whole: Path) -> None:
    asked = r"'beagle' has 3 test pictures and 60 are asked for; .*--set protocol.reference_per_concept=3"
    with pytest.raises(WorldUnavailable, match=asked):
        reference(read("dogs", whole), 11, 60, 16)
