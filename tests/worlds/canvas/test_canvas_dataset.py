"""The released folders, in miniature files: all 1,020 of them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from bench.worlds import WorldUnavailable
from bench.worlds.canvas import dataset
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, STYLE_LABELS


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """51 x 20 x 20 names of one small JPEG."""
    root = tmp_path_factory.mktemp("canvas")
    Image.new("RGB", (16, 16), "orange").save(root / "one.jpg")
    for style in STYLE_LABELS:
        for object in OBJECTS:
            folder = root / style / object
            folder.mkdir(parents=True)
            for i in range(1, 21):
                os.link(root / "one.jpg", folder / f"{i}.jpg")
    return root


def test_pictures_are_in_numeric_order(release: Path) -> None:
    found = dataset.pictures(release, "Van_Gogh", "Dogs")
    assert [path.name for path in found] == [f"{i}.jpg" for i in range(1, 21)]
    assert found[0].parent == release / "Van_Gogh" / "Dogs"
    assert dataset.pictures(release, SEED_IMAGES, "Sea")[0].parent.parent.name == "Seed_Images"


def test_a_whole_release_passes_whatever_else_lies_in_it(release: Path) -> None:
    (release / "Pointillism").mkdir(exist_ok=True)  # one of the ten styles that no experiment uses
    dataset.verify(release)


def test_a_wrong_release_says_what_is_wrong_where(release: Path) -> None:
    missing, strange = release / "Monet" / "Cats" / "7.jpg", release / "Rust" / "Sea" / "21.jpg"
    os.link(missing, strange)
    missing.unlink()
    whole, moved = release / SEED_IMAGES, release / "Seed_Image"  # the README's spelling
    try:
        with pytest.raises(WorldUnavailable) as error:
            dataset.verify(release)
        said = str(error.value)
        assert said.startswith("2 of 1020 folders")
        assert "Monet/Cats holds 19 pictures, expected 1.jpg to 20.jpg (missing: 7.jpg)" in said
        assert "Rust/Sea holds 21 pictures, expected 1.jpg to 20.jpg (unexpected: 21.jpg)" in said
        assert dataset.RELEASE in said
        with pytest.raises(WorldUnavailable, match=r"missing: 7\.jpg"):
            dataset.pictures(release, "Monet", "Cats")
        whole.rename(moved)
        with pytest.raises(WorldUnavailable, match=r"^22 of 1020 .*Seed_Images/Architectures is missing.* and 19 more"):
            dataset.verify(release)
    finally:
        if moved.exists():
            moved.rename(whole)
        os.link(strange, missing)
        strange.unlink()
    dataset.verify(release)


def test_what_operating_systems_leave_is_skipped_and_said_once(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = [release / "Monet" / name for name in ("Cats/._1.jpg", "Cats/Thumbs.db", "Dogs/1.jpg~", "Dogs/.DS_Store")]
    left += [release / "Rust" / "Sea" / "@eaDir" / "1.jpg"]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    try:
        dataset.verify(release)
        assert len(dataset.pictures(release, "Monet", "Cats")) == 20
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith(f"{release}: skipped 5 files and folders of an operating system")
        assert "._1.jpg" in said
        (release / "Rust" / "Sea" / "1 (1).jpg").write_text("")
        with pytest.raises(WorldUnavailable, match=r"unexpected: 1 \(1\)\.jpg"):
            dataset.verify(release)
    finally:
        (release / "Rust" / "Sea" / "1 (1).jpg").unlink(missing_ok=True)
        for file in left:
            file.unlink()
        left[-1].parent.rmdir()


def test_no_folder_at_all_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorldUnavailable, match="nowhere is no folder"):
        dataset.verify(tmp_path / "nowhere")


def test_the_reference_of_a_style_has_every_object_first(release: Path) -> None:
    found = dataset.reference(release, "Winter", 100)
    assert len(set(found)) == 100
    assert [path.parent.name for path in found[:20]] == list(OBJECTS)
    assert {path.name for path in found[:20]} == {"1.jpg"}
    assert {path.name for path in found} == {f"{i}.jpg" for i in range(1, 6)}
    assert dataset.reference(release, "Winter", 7) == found[:7]
    with pytest.raises(ValueError, match="100 pictures of Winter, not 101"):
        dataset.reference(release, "Winter", 101)


def test_the_reference_of_an_object_has_every_style_first(release: Path) -> None:
    found = dataset.reference(release, "Frogs", 255)
    assert len(set(found)) == 255
    assert [path.parent.parent.name for path in found[:51]] == list(STYLE_LABELS)
    with pytest.raises(ValueError, match="255 pictures of Frogs, not 0"):
        dataset.reference(release, "Frogs", 0)


def test_the_published_reference_leaves_the_target_out(release: Path) -> None:
    style, object = dataset.reference_without(release, "Monet"), dataset.reference_without(release, "Cats")
    assert (len(set(style)), len(set(object))) == (50 * 20 * 5, 51 * 19 * 5)
    assert not any("Monet" in path.parts for path in style)
    assert not any("Cats" in path.parts for path in object)
    assert {path.stem for path in style + object} == set("12345")


def test_an_unknown_name_is_refused(release: Path) -> None:
    for style, object in (("Monet", "cats"), ("monet", "Cats")):
        with pytest.raises(ValueError, match="of UnlearnCanvas; known:"):
            dataset.pictures(release, style, object)
    with pytest.raises(ValueError, match="'Dog' is no style or object of UnlearnCanvas"):
        dataset.reference(release, "Dog", 1)
    with pytest.raises(ValueError, match="'Dog' is no style or object of UnlearnCanvas"):
        dataset.reference_without(release, "Dog")
