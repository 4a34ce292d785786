"""Image files become the right pictures, or an error that names the file."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from bench.worlds import WorldUnavailable
from bench.worlds.pictures import TURNS, picture, upright

HEIGHT, WIDTH = 19, 26
GREY = (np.add.outer(np.arange(HEIGHT) * 9, np.arange(WIDTH) * 3)).astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], np.full_like(GREY, 70)], -1)
ALPHA = np.concatenate([COLOURS, GREY[:, ::-1, None]], -1)
ON_WHITE = np.round(COLOURS * (ALPHA[..., 3:] / 255) + 255 - ALPHA[..., 3:]).astype(np.uint8)


def painted(size: tuple[int, int]) -> Image.Image:
    """Left third red, middle third green, right third blue."""
    image = Image.new("RGB", size, "green")
    third = size[0] // 3
    image.paste("red", (0, 0, third, size[1]))
    image.paste("blue", (size[0] - third, 0, *size))
    return image


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1)


def read(path: Path) -> np.ndarray:
    return np.asarray(upright(path)).astype(int)


def read_or_named(path: Path) -> np.ndarray | None:
    """The picture; None if an error names its file."""
    try:
        return read(path)
    except WorldUnavailable as error:
        if str(path) in str(error):
            return None
        raise


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(
    values: np.ndarray, bits: int, colours: int, before: bytes = b"", after: bytes = b"", width: int = WIDTH
) -> bytes:
    """A PNG file. `before` and `after` are chunks around the pixels."""
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, len(values), bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", rows) + after + chunk(b"IEND", b"")


def exif(
    order: str, value: int, *others: tuple[int, int, int, int], after: tuple[int, int, int, int] = (0,) * 4
) -> bytes:
    """EXIF data with an orientation, and with entries (tag, type, number, value or place) before and after it."""
    entries = [struct.pack(f"{order}HHLL", *other) for other in others]
    entries += [struct.pack(f"{order}HHLHH", 0x0112, 3, 1, value, 0), struct.pack(f"{order}HHLL", *after)]
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}LH", 8, len(entries)) + b"".join(entries) + b"\xff" * 4


def jpeg(data: bytes = b"", **options: object) -> bytes:
    """A JPEG file of COLOURS with the EXIF data `data`."""
    made = io.BytesIO()
    Image.fromarray(COLOURS).save(made, "JPEG", quality=95, **options)
    segment = b"Exif\0\0" + data
    return made.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + made.getvalue()[2:]


def tiff(values: np.ndarray, bits: int, order: str = "<", white_is_zero: bool = False, form: int = 1) -> bytes:
    """A grey TIFF file without compression."""
    data = values.tobytes()
    data += b"\0" * (len(data) % 2)
    entries = [(256, WIDTH), (257, HEIGHT), (258, bits), (259, 1), (262, 1 - white_is_zero), (273, 8), (277, 1)]
    entries += [(278, HEIGHT), (279, len(data)), (339, form)]
    packed = b"".join(struct.pack(f"{order}HHLL", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" if order == "<" else b"MM\0*"
    start = struct.pack(f"{order}L", 8 + len(data))
    return head + start + data + struct.pack(f"{order}H", len(entries)) + packed + b"\0" * 4


def test_it_is_the_middle_square(tmp_path: Path) -> None:
    painted((90, 30)).save(tmp_path / "wide.png")
    found = picture(tmp_path / "wide.png", 16)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 16, 16))
    assert found.is_contiguous()
    assert torch.equal(found.flatten(1).unique(dim=1).flatten(), torch.tensor([0, 128, 0], dtype=torch.uint8))


def test_a_shrunk_checkerboard_is_averaged(tmp_path: Path) -> None:
    board = Image.new("L", (64, 64))
    board.putdata([255 * ((x + y) % 2) for y in range(64) for x in range(64)])
    board.save(tmp_path / "board.png")
    middle = picture(tmp_path / "board.png", 8)[:, 2:-2, 2:-2].float()
    assert (middle - 127.5).abs().max() < 3


@pytest.mark.parametrize("size", [(1, 1), (9000, 1), (1, 9000)])
def test_pictures_of_extreme_shapes_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "x.png")
    assert picture(tmp_path / "x.png", 4).flatten(1).unique(dim=1).flatten().tolist() == [255, 0, 0]


DEEP = {
    "png 16": png((GREY * np.uint16(257)).astype(">u2"), 16, 0),
    "pgm 16": b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + (GREY * np.uint16(257)).astype(">u2").tobytes(),
    "pgm 10": b"P5 %d %d 1020\n" % (WIDTH, HEIGHT) + (GREY * np.uint16(4)).astype(">u2").tobytes(),
    "pfm": b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + (GREY[::-1] / 255).astype("<f4").tobytes(),
    "tiff 16 small end first": tiff((GREY * np.uint16(257)).astype("<u2"), 16),
    "tiff 16 big end first": tiff((GREY * np.uint16(257)).astype(">u2"), 16, ">"),
    "tiff 16 white is zero": tiff(((255 - GREY) * np.uint16(257)).astype("<u2"), 16, white_is_zero=True),
    "tiff 8 white is zero": tiff(255 - GREY, 8, white_is_zero=True),
    "tiff 32": tiff(GREY.astype("<u4") * np.uint32(2**32 // 255), 32),
    "tiff float": tiff((GREY / 255).astype("<f4"), 32, form=3),
    "tiff float big end first": tiff((GREY / 255).astype(">f4"), 32, ">", form=3),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_more_bits_is_scaled_by_its_depth(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DEEP[name])
    assert np.array_equal(read(tmp_path / "x"), three(GREY))


def test_colours_of_16_bits_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png((COLOURS * np.uint16(257)).astype(">u2"), 16, 2))
    assert np.array_equal(read(tmp_path / "x.png"), COLOURS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(GREY.astype("<f4"), 32, form=3), "has values from 0 to"),
        (tiff(np.full_like(GREY, np.nan, "<f4"), 32, form=3), "not finite"),
        (tiff(GREY.astype("<i2"), 16, form=2), "signed values"),
        (png((COLOURS * np.uint16(257)).astype(">u2"), 16, 2, chunk(b"tRNS", b"\0" * 6)), "transparent colour of 16"),
    ],
)
def test_values_without_a_clear_meaning_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(WorldUnavailable, match=rf"x\.tif .*{message}.*8-bit RGB"):
        upright(tmp_path / "x.tif")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white(bits: int, tmp_path: Path) -> None:
    most = 2**bits - 1
    values = np.arange(HEIGHT * 16).reshape(HEIGHT, 16) * 251 & most
    packed = np.packbits((values[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(HEIGHT, -1), axis=1)
    key = int(values[3, 5])
    (tmp_path / "x.png").write_bytes(png(packed, bits, 0, chunk(b"tRNS", struct.pack(">H", key)), width=16))
    expected = np.where(values == key, 255, np.round(values / most * 255)).astype(int)
    assert np.array_equal(read(tmp_path / "x.png"), three(expected))


@pytest.mark.parametrize(
    ("name", "options"), [("x.png", {}), ("x.tif", {}), ("x.webp", {"lossless": True, "exact": True})]
)
def test_transparent_parts_are_white(name: str, options: dict[str, bool], tmp_path: Path) -> None:
    Image.fromarray(ALPHA, "RGBA").save(tmp_path / name, **options)
    assert abs(read(tmp_path / name) - ON_WHITE).max() <= 1
    opaque = ALPHA.copy()
    opaque[..., 3] = 255
    Image.fromarray(opaque, "RGBA").save(tmp_path / name, **options)
    assert np.array_equal(read(tmp_path / name), COLOURS)


@pytest.mark.parametrize("alpha", [False, True])
def test_palettes_are_colours(alpha: bool, tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(12)
    image.save(tmp_path / "x.gif", **({"transparency": 3} if alpha else {}))
    expected = np.asarray(image.convert("RGB")).copy()
    expected[(np.asarray(image) == 3) & alpha] = 255
    assert np.array_equal(read(tmp_path / "x.gif"), expected)


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.gif", "x.tif"])
def test_of_several_frames_the_first_is_read(name: str, tmp_path: Path) -> None:
    options = {"lossless": True} if name == "x.webp" else {}
    other = Image.new("RGB", (WIDTH, HEIGHT), "blue")
    painted((WIDTH, HEIGHT)).save(tmp_path / name, save_all=True, append_images=[other, other.copy()], **options)
    assert np.array_equal(read(tmp_path / name), np.asarray(painted((WIDTH, HEIGHT))))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_of_every_colour_space_is_read(mode: str, progressive: bool, tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    image.save(tmp_path / "x.jpg", quality=100, subsampling=0, progressive=progressive)
    assert abs(read(tmp_path / "x.jpg") - np.asarray(image.convert("RGB"))).max() < 8


def turned(values: np.ndarray, number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).transpose(TURNS[number])) if number in TURNS else values


BAD_MAKE, BAD_PART = (0x010F, 2, 4000, 99_999), (0x8769, 4, 1, 77_777)
NO_NUMBER = (0x011A, 5, 1, 0)  # a fraction of which the reader would divide by zero
TEXT_FOR_NUMBER = (0x0100, 2, 4, 0x00636261)


@pytest.mark.parametrize("number", [*range(1, 9), 0, 9, 65_535])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_turned_whatever_else_the_exif_data_are(number: int, order: str, tmp_path: Path) -> None:
    data = exif(order, number, BAD_MAKE, TEXT_FOR_NUMBER, NO_NUMBER, after=BAD_PART)
    (tmp_path / "x.jpg").write_bytes(jpeg())
    plain = read(tmp_path / "x.jpg").astype(np.uint8)
    (tmp_path / "x.jpg").write_bytes(jpeg(data))
    assert np.array_equal(read(tmp_path / "x.jpg"), turned(plain, number))
    for place in ("before", "after"):  # the pixels
        (tmp_path / "x.png").write_bytes(png(COLOURS, 8, 2, **{place: chunk(b"eXIf", data)}))
        assert np.array_equal(read(tmp_path / "x.png"), turned(COLOURS, number))
    Image.fromarray(COLOURS).save(tmp_path / "x.webp", lossless=True, exif=data)
    assert np.array_equal(read(tmp_path / "x.webp"), turned(COLOURS, number))
    Image.fromarray(COLOURS).save(tmp_path / "x.tif", tiffinfo={274: number})
    assert np.array_equal(read(tmp_path / "x.tif"), turned(COLOURS, number))


@pytest.mark.parametrize(
    "data", [b"", b"II", b"XX*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", bytes(50)]
)
def test_exif_data_without_an_orientation_turn_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(data))
    assert read(tmp_path / "x.jpg").shape == COLOURS.shape


def test_a_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.jpg", "PNG")
    assert np.array_equal(read(tmp_path / "x.jpg"), COLOURS)


def refused(path: Path) -> str:
    with pytest.raises(WorldUnavailable) as caught:
        upright(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    assert "is missing" in refused(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("<html>quota exceeded</html>")
    assert "is cut short or no image" in refused(tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").touch()
    assert "is empty" in refused(tmp_path / "empty.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not an ordinary file" in refused(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "can't be read" in refused(tmp_path / "loop.jpg")
    assert "can't be read" in refused(tmp_path / ("a" * 300))
    painted((9, 9)).save(tmp_path / "x.eps")
    assert "Ghostscript" in refused(tmp_path / "x.eps")


@contextmanager
def other_code() -> Iterator[None]:
    """Switches that libraries and plug-ins set for the whole process."""
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, before = None, True, Image.MAX_IMAGE_PIXELS
    try:
        yield
        assert Image.MAX_IMAGE_PIXELS is None
        assert ImageFile.LOAD_TRUNCATED_IMAGES
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before, False


def test_damaged_and_huge_files_are_refused_whatever_other_code_allows(tmp_path: Path) -> None:
    with other_code():
        (tmp_path / "cut.jpg").write_bytes(jpeg()[:-90])
        assert "is cut short" in refused(tmp_path / "cut.jpg")
        head = chunk(b"IHDR", struct.pack(">LLBBBBB", 10_000, 9_000, 8, 0, 0, 0, 0))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        assert "more than 89,478,485 pixels" in refused(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1}]
)
def test_a_jpeg_that_ends_early_is_refused_with_an_end_marker_too(options: dict[str, int], tmp_path: Path) -> None:
    whole = jpeg(**options)
    start = whole.index(b"\xff\xda") + 30
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    (tmp_path / "x.jpg").write_bytes(whole)
    assert np.array_equal(read(tmp_path / "x.jpg"), expected)
    for end in range(start, len(whole) - 4, 23):
        (tmp_path / "x.jpg").write_bytes(whole[:end] + b"\xff\xd9")
        found = read_or_named(tmp_path / "x.jpg")
        assert found is None or np.array_equal(found, expected) or options.get("progressive")
        (tmp_path / "x.jpg").write_bytes(whole[:end] + bytes(len(whole) - end))
        refused(tmp_path / "x.jpg")


FORMATS = {
    "png": {},
    "jpeg": {"quality": 90},
    "webp": {"lossless": True},
    "tiff": {},
    "gif": {},
    "bmp": {},
    "ppm": {},
    "jpeg2000": {},
    "tga": {},
}
MODES = {"L": ("png", "jpeg", "tiff", "gif", "bmp", "ppm"), "1": ("png", "tiff", "bmp"), "CMYK": ("jpeg", "tiff")}
MODES |= {
    "RGB": tuple(FORMATS),
    "P": ("png", "gif", "tiff", "bmp"),
    "LA": ("png",),
    "RGBA": ("png", "webp", "tiff", "tga"),
}
TURNED = ("png", "jpeg", "webp", "tiff")


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, np.ndarray, str]:
    """An image file, its picture and its format."""
    mode = draw(st.sampled_from([*MODES]))
    form = draw(st.sampled_from(MODES[mode]))
    size = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    noise = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert("RGBA" if mode in ("LA", "RGBA") else "RGB")
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    number = draw(st.integers(0, 9)) if form in TURNED else 1
    data = Image.Exif()
    data[0x0112] = number
    made = io.BytesIO()
    image.save(made, form, **FORMATS[form], **({"exif": data} if form in TURNED else {}))
    content = made.getvalue()
    shown = Image.open(io.BytesIO(content)) if form in ("jpeg", "jpeg2000") else image  # these lose something
    if mode in ("LA", "RGBA"):
        shown = Image.alpha_composite(Image.new("RGBA", size, "white"), image.convert("RGBA"))
    return content, turned(np.asarray(shown.convert("RGB")), number), form


@settings(derandomize=True, max_examples=120, deadline=None)
@given(files())
def test_generated_files_are_read(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[bytes, np.ndarray, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "generated.picture"
    file.write_bytes(made[0])
    assert np.array_equal(read(file), made[1])


@settings(derandomize=True, max_examples=250, deadline=None)
@given(files(), st.data())
def test_damaged_files_are_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[bytes, np.ndarray, str], data: st.DataObject
) -> None:
    """Only some formats have checksums: in the others a changed byte may be another picture, but a cut one may not."""
    file = tmp_path_factory.getbasetemp() / "damaged.picture"
    content, expected, form = made
    place = data.draw(st.integers(0, len(content) - 1))
    is_cut = data.draw(st.booleans())
    damaged = content[:place] if is_cut else content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
    file.write_bytes(damaged)
    found = read_or_named(file)
    assert found is None or np.array_equal(found, expected) or not (is_cut or form == "png")
