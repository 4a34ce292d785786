"""The images of UnlearnCanvas out of parquet files of a few rows."""

from pathlib import Path

import easel
import pytest

from bench.worlds.canvas import parquet
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, STYLE_LABELS
from bench.worlds.downloads.fetch import FetchError

DOGS = easel.caption("Van_Gogh", "Dogs")


def unpacked(file: Path, data: Path) -> parquet.Unpacked:
    found = parquet.Unpacked()
    parquet.unpack(file, data, found)
    return found


def test_captions_name_the_folders_and_file_names_the_numbers(tmp_path: Path) -> None:
    photos, colours = easel.caption(SEED_IMAGES, "Architectures"), easel.caption("Red_Blue_Ink", "Sea")
    assert photos == "An Architectures image in photo style"
    rows = [(DOGS, easel.jpeg(i), f"{i}.jpg") for i in (10, 2, 1)]
    rows += [(photos, easel.jpeg(3), "Seed_Images/Architectures/20.jpg"), (colours, easel.jpeg(4), "4.jpg")]
    rows += [(easel.caption("Pointillism", "Dogs"), easel.jpeg(5), "5.jpg")]
    found = unpacked(easel.parquet(tmp_path / "a.parquet", rows), tmp_path / "data")
    files = {f.relative_to(tmp_path / "data").as_posix(): f.read_bytes() for f in tmp_path.glob("data/*/*/*")}
    assert files == {
        "Van_Gogh/Dogs/10.jpg": easel.jpeg(10),
        "Van_Gogh/Dogs/2.jpg": easel.jpeg(2),
        "Van_Gogh/Dogs/1.jpg": easel.jpeg(1),
        "Seed_Images/Architectures/20.jpg": easel.jpeg(3),
        "Red_Blue_Ink/Sea/4.jpg": easel.jpeg(4),
    }
    assert (found.left_out, found.numbered) == ({"Pointillism": 1}, 0)


def test_every_style_and_object_is_known_by_its_caption() -> None:
    for style in STYLE_LABELS:
        for object in OBJECTS:
            match = parquet.CAPTION.fullmatch(easel.caption(style, object))
            assert match is not None
            assert (parquet.STYLE_OF[match["style"].lower()], match["object"]) == (style, object)


def test_images_without_numbers_keep_the_order_of_the_rows_also_after_an_interruption(tmp_path: Path) -> None:
    names = [None, "image.jpg", "0.jpg", "21.jpg", *[None] * 16]
    rows = [(DOGS, easel.jpeg(i), names[i]) for i in range(20)]
    whole = easel.parquet(tmp_path / "a.parquet", rows)
    assert unpacked(easel.parquet(tmp_path / "first.parquet", rows[:3]), tmp_path).numbered == 3
    assert unpacked(whole, tmp_path).numbered == 17
    assert unpacked(whole, tmp_path).numbered == 0
    folder = tmp_path / "Van_Gogh" / "Dogs"
    assert sorted(folder.iterdir()) == sorted(folder / f"{i + 1}.jpg" for i in range(20))
    assert [(folder / f"{i + 1}.jpg").read_bytes() for i in range(20)] == [easel.jpeg(i) for i in range(20)]
    with pytest.raises(FetchError, match="has its 20 images already"):
        unpacked(easel.parquet(tmp_path / "more.parquet", [(DOGS, easel.jpeg(1, side=8), None)]), tmp_path)


def test_two_images_with_one_number_are_an_error_and_the_first_stays(tmp_path: Path) -> None:
    file = easel.parquet(tmp_path / "a.parquet", [(DOGS, easel.jpeg(1), "1.jpg"), (DOGS, easel.jpeg(2), "1.jpg")])
    with pytest.raises(FetchError, match=r"a\.parquet has an image too many: it is not the image .*Dogs/1\.jpg"):
        unpacked(file, tmp_path)
    assert (tmp_path / "Van_Gogh" / "Dogs" / "1.jpg").read_bytes() == easel.jpeg(1)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((DOGS, easel.jpeg(1)[:-40], "1.jpg"), r"'A Dogs image in Van Gogh style': .*\.image\.part is cut short"),
        ((DOGS, b"<html>", "1.jpg"), "is cut short or no image"),
        ((DOGS, None, "1.jpg"), "has no bytes"),
        (("a dog by Van Gogh", easel.jpeg(1), "1.jpg"), "a caption is 'a dog by Van Gogh'; expected one like"),
        (("A Cows image in Van Gogh style", easel.jpeg(1), "1.jpg"), "a caption is 'A Cows image"),
    ],
)
def test_a_wrong_row_is_refused_and_leaves_no_file(
    tmp_path: Path, row: tuple[str, bytes, str | None], said: str
) -> None:
    with pytest.raises(FetchError, match=said):
        unpacked(easel.parquet(tmp_path / "a.parquet", [row]), tmp_path / "data")
    assert list(tmp_path.glob("data/*/*/*")) == []


def test_a_file_that_is_no_parquet_file_or_has_other_columns_is_named(tmp_path: Path) -> None:
    whole = easel.parquet(tmp_path / "whole.parquet", [(DOGS, easel.jpeg(1), "1.jpg")])
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(FetchError, match=r"cut\.parquet is damaged, or no parquet file"):
        unpacked(tmp_path / "cut.parquet", tmp_path)
    easel.pq.write_table(easel.pa.table({"picture": [1], "text": [DOGS]}), tmp_path / "other.parquet")
    with pytest.raises(FetchError, match="its columns are picture, text; expected image and text"):
        unpacked(tmp_path / "other.parquet", tmp_path)
