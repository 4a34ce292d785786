from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFont
from support.awkward_names import NAMES

from bench.commands import main, picture_strip
from bench.core.config import RunConfig
from bench.core.text import printable
from bench.worlds import World


def test_strip_places_images_by_method_and_concept() -> None:
    def plain(value: int) -> torch.Tensor:
        return torch.full((2, 3, 8, 8), value, dtype=torch.uint8)

    shown = {"pretrained": {"rose": plain(10), "daisy": plain(20)}, "mimmu": {"rose": plain(30), "daisy": plain(40)}}
    picture = np.asarray(picture_strip.strip(shown, {"rose": "rose (forgotten)", "daisy": "daisy"}, zoom=2))
    for row, values in enumerate(((10, 20), (30, 40))):
        for column, value in enumerate(values):
            x = picture_strip.LEFT + column * (2 * 16 + picture_strip.GAP)
            y = len(picture) - (2 - row) * picture_strip.LINE  # the height of a row is that of its name at least
            block = picture[y : y + 16, x : x + 32]
            assert block.shape == (16, 32, 3)
            assert (block == value).all()
    assert (picture[:, : picture_strip.LEFT] < 255).any(), "no name beside the rows"


def test_images_are_read_from_store_with_same_noise(world: World, tmp_path: Path) -> None:
    arguments = ["--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--out", str(tmp_path), "--workers", "1"]
    arguments += ["--metrics", "ua"]  # pictures are what is wanted
    run = RunConfig(methods=("mimmu",), suite="smoke", world="tiny", out=tmp_path)
    task, kept = world.concepts[0], world.concepts[1]
    with pytest.raises(ValueError, match=r"is not in .*: run it first"):
        picture_strip.gather(run, task, [kept], 2)
    assert main.main(arguments) == 0
    images = picture_strip.gather(run, task, [task, kept], 2)
    assert list(images) == ["pretrained", "mimmu"]
    assert all(pictures.shape == (2, 3, 64, 64) for shown in images.values() for pictures in shown.values())
    # the method moved the pictures, from the same noise: neither the same nor unrelated
    before, after = images["pretrained"][task].float(), images["mimmu"][task].float()
    assert not torch.equal(before, after)
    assert (before - after).abs().mean() < (before - before.flip(0)).abs().mean()


def test_missing_images_are_refused_with_name(world: World, tmp_path: Path) -> None:
    run = RunConfig(methods=("mimmu",), suite="smoke", world="tiny", out=tmp_path)
    with pytest.raises(ValueError, match=r"has no task 'golden retreiver'.*golden retriever"):
        picture_strip.gather(run, "golden retreiver", [], 1)
    with pytest.raises(ValueError, match="no concept 'tulp'"):
        picture_strip.gather(run, world.concepts[0], ["tulp"], 1)


@pytest.mark.parametrize("name", NAMES)
def test_names_beside_images_are_whole_and_in_lines_that_fit(name: str) -> None:
    font = ImageFont.load_default(15)
    lines = picture_strip.folded(name, font, 120)
    assert "".join(lines) == picture_strip.drawable(name, font)
    assert all(font.getlength(line) <= 120 + font.getlength(" ") for line in lines)
    assert not printable.OBEYED.search("".join(lines))


def test_long_name_makes_room_above_and_beside_images() -> None:
    images = torch.full((1, 3, 64, 64), 7, dtype=torch.uint8)
    few, many = (picture_strip.strip({n: {n: images}}, {n: n}, zoom=1) for n in ("x", "wolf " * 48))
    assert many.height > few.height == picture_strip.TOP + 64
    assert (np.asarray(many)[:, picture_strip.LEFT :] == 7).all(axis=(1, 2)).sum() == 64
