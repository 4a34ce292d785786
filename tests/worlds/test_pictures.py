"""Image files become tensors, and damaged ones say so."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from bench.worlds import WorldUnavailable
from bench.worlds.pictures import picture


def painted(size: tuple[int, int]) -> Image.Image:
    """Left third red, middle third green, right third blue."""
    image = Image.new("RGB", size, "green")
    third = size[0] // 3
    image.paste("red", (0, 0, third, size[1]))
    image.paste("blue", (size[0] - third, 0, *size))
    return image


def test_it_is_the_middle_square(tmp_path: Path) -> None:
    painted((90, 30)).save(tmp_path / "wide.png")
    found = picture(tmp_path / "wide.png", 16)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 16, 16))
    assert found.is_contiguous()
    assert torch.equal(found.flatten(1).unique(dim=1).flatten(), torch.tensor([0, 128, 0], dtype=torch.uint8))


def test_grey_transparent_and_turned_files_are_read_alike(tmp_path: Path) -> None:
    Image.new("L", (20, 20), 77).save(tmp_path / "grey.png")
    assert picture(tmp_path / "grey.png", 8).unique().tolist() == [77]
    painted((30, 30)).convert("RGBA").save(tmp_path / "clear.png")
    assert picture(tmp_path / "clear.png", 30)[:, 5, 2].tolist() == [255, 0, 0]
    exif = Image.Exif()
    exif[0x0112] = 6  # what is left in the file is the bottom for the eye
    painted((30, 30)).save(tmp_path / "turned.png", exif=exif)
    assert picture(tmp_path / "turned.png", 30)[:, 2, 5].tolist() == [255, 0, 0]


def test_a_shrunk_checkerboard_is_averaged(tmp_path: Path) -> None:
    board = Image.new("L", (64, 64))
    board.putdata([255 * ((x + y) % 2) for y in range(64) for x in range(64)])
    board.save(tmp_path / "board.png")
    middle = picture(tmp_path / "board.png", 8)[:, 2:-2, 2:-2].float()
    assert (middle - 127.5).abs().max() < 3


def test_a_file_cut_short_missing_or_no_image_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    painted((64, 64)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(WorldUnavailable, match=r"cut\.jpg is cut short"):
        picture(cut, 8)
    (tmp_path / "text.jpg").write_text("<html>quota exceeded</html>")
    with pytest.raises(WorldUnavailable, match=r"text\.jpg is cut short or no image"):
        picture(tmp_path / "text.jpg", 8)
    with pytest.raises(WorldUnavailable, match=r"none\.jpg is missing"):
        picture(tmp_path / "none.jpg", 8)
