"""Photographs and paintings from files. Every picture of a data set is read by this module.

A file gives the right picture, or an error that names the file. Pillow alone gives wrong pictures without an error for
some files: 16-bit grey is read as white, a transparent picture shows what is behind its transparent parts, and EXIF
data with one damaged entry lose their orientation.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile

from bench.worlds import jpeg, pixels
from bench.worlds.base import WorldUnavailable

# Cache keys of real pictures and published fingerprints contain this word. Any other word is a new version: change it
# if the pixels of any file change.
VERSION = "2"

MAX_PIXELS = 89_478_485  # Pillow's limit too: a small file can claim to be huge, and would fill the memory
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def picture(path: Path, side: int) -> torch.Tensor:
    """The central square of an image file, uint8 RGB (3, side, side).

    The image is read by `upright`, cropped to its central square, and resized with Pillow's bicubic filter, which is
    antialiased for smaller sizes. Raises WorldUnavailable like `upright`.
    """
    image = upright(path)
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def upright(path: Path) -> Image.Image:
    """An image file as 8-bit RGB, turned as its EXIF orientation says.

    The content of a file decides its format, not its name. Of the EXIF data only the orientation is read. A file with
    several frames gives its first frame. Transparent parts become white. Values of more than 8 bits are scaled by the
    file's bit depth; floating-point values are 0 for black and 1 for white. Colour profiles (ICC) are not applied.

    Raises WorldUnavailable, with the path, for a file that is missing, empty, cut short, damaged, not an image, or
    larger than MAX_PIXELS.
    """
    _require_file(path)
    try:
        with _strict():
            return _read(path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise WorldUnavailable(f"{path} claims to have more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except MemoryError:
        raise WorldUnavailable(f"{path} does not fit into the memory of this machine") from None
    except pixels.Unclear as error:
        raise WorldUnavailable(f"{path} {error}; save it as 8-bit RGB") from None
    except Exception as error:  # Pillow's readers raise many types for damaged files
        raise WorldUnavailable(f"{path} is cut short or no image ({_said(error)}); fetch it again") from error


def _require_file(path: Path) -> None:
    """Raise WorldUnavailable unless `path` is a file with content. To open a pipe would wait without an end."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise WorldUnavailable(f"{path} is missing") from None
    except (OSError, ValueError) as error:  # for example links in a circle
        raise WorldUnavailable(f"{path} can't be read ({_said(error)})") from None
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not an ordinary file"
        raise WorldUnavailable(f"{path} is {kind}; expected an image file")
    if not facts.st_size:
        raise WorldUnavailable(f"{path} is empty; fetch it again")


def _said(error: BaseException) -> str:
    """The message of an error in one line, without the path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _strict() -> Iterator[None]:
    """Let Pillow refuse files that are cut short or too large, also if other code of this process allows them."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = MAX_PIXELS, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about EXIF data, which do not matter here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _read(path: Path) -> Image.Image:
    with path.open("rb") as file, Image.open(file) as opened:
        if opened.format == "EPS":
            raise ValueError("EPS is a program, which Pillow would have Ghostscript run")
        if opened.format == "PNG":
            opened.verify()  # compares the checksums, which loading the pixels does not
    # Pillow scrambles some turned TIFF files if it knows the path: it maps them into the memory then
    with path.open("rb") as file, Image.open(file) as opened:
        if opened.format == "TIFF":  # Pillow turns it while it loads it, and would read other EXIF entries then
            exif = opened.getexif()
            for tag in [tag for tag in exif if tag != pixels.ORIENTATION]:
                del exif[tag]
        depth = pixels.depth(opened)
        opened.load()
        if opened.format in ("JPEG", "MPO"):
            jpeg.require_whole(path.read_bytes(), opened)
        turn = TURNS.get(pixels.orientation(opened)) if opened.format != "TIFF" else None
        image = pixels.rgb(opened, depth)
    return image if turn is None else image.transpose(turn)
