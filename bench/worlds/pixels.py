"""Pixels and orientation of an image that Pillow opened, for `bench.worlds.pictures`."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the tag of the orientation in EXIF data
# types of EXIF values that can hold an orientation -> format for struct: unsigned and signed of 1, 2 and 4 bytes
INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, SIGNED, FLOAT = 0, 2, 3  # values of the last two
RAW_BITS = re.compile(r";(\d+)")  # in Pillow's names of stored pixels, such as "RGB;16B" and "L;4"
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey


class Unclear(ValueError):
    """The values of an image have no clear meaning as colours. The message follows the name of the file."""


@dataclass(frozen=True)
class Depth:
    """What the values of an image mean. Pillow's modes do not say it.

    Args:
        white: the value of white, in a grey image of more than 8 bits; None if the file does not say it.
        inverted: whether 0 is white, in a grey image of more than 8 bits.
        bits: the bits of each value in the file, of which Pillow makes 8 unless the image is grey with more than 8.
    """

    white: float | None
    inverted: bool = False
    bits: int = 8


def depth(opened: Image.Image) -> Depth:
    """What the values of an opened image mean, before it is loaded. Raises Unclear for signed values."""
    if opened.format != "TIFF":
        known = opened.mode in DEEP or opened.format in ("PNG", "PPM")
        stored = RAW_BITS.search(str([tile[3] for tile in getattr(opened, "tile", ())]))
        return Depth(1 if opened.mode == "F" else 65535 if known else None, bits=int(stored[1]) if stored else 8)
    tags = opened.tag_v2  # type: ignore[attr-defined]
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise Unclear("has signed values, of which none is known to be black or white")
    white = 1 if opened.mode == "F" else 2 ** tags.get(BITS_PER_SAMPLE, (1,))[0] - 1
    return Depth(white, inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)


def rgb(image: Image.Image, depth: Depth) -> Image.Image:
    """A loaded image as 8-bit RGB, on white.

    Raises Unclear if the values have no clear meaning as colours.
    """
    if image.mode in (*DEEP, "I", "F"):
        return _from_deep(image, depth)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if "transparency" in image.info and image.mode in ("L", "RGB"):  # one colour, in as many bits as the file has
        if depth.bits > 8:
            raise Unclear(f"has a transparent colour of {depth.bits} bits")
        if image.mode == "L":
            image.info["transparency"] *= 255 // (2**depth.bits - 1)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _from_deep(image: Image.Image, depth: Depth) -> Image.Image:
    """A grey image of more than 8 bits as 8-bit RGB."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "I" and depth.white is not None and depth.white > 2**31:
        values = np.where(values < 0, values + 2**32, values)  # Pillow keeps unsigned values in signed numbers
    if depth.white is None:
        raise Unclear(f"has values of the format {image.format}, of which it does not say which one is white")
    if not np.isfinite(values).all():
        raise Unclear("has values that are not finite")
    low, high = values.min(), values.max()
    if low < 0 or high > depth.white:
        raise Unclear(f"has values from {low:g} to {high:g}; expected 0 for black to {depth.white:g} for white")
    levels = values / depth.white * 255
    grey = np.floor((255 - levels if depth.inverted else levels) + 0.5)
    if isinstance(key := image.info.get("transparency"), int):
        grey[values == key] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def orientation(loaded: Image.Image) -> int:
    """The EXIF orientation of a loaded image, 1 to 8; any other number if the file has a wrong one or none."""
    found = _from_exif(loaded.info.pop("exif", b""))
    if found is not None:
        return found
    try:  # without the entry "exif", Pillow looks in PNG's text and in XMP data
        other = loaded.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged data; the type depends on the damage
        return 1
    return other if isinstance(other, int) else 1


def _from_exif(data: bytes) -> int | None:
    """The orientation in EXIF data; None if the data do not contain it.

    Only the entries of the first directory are read, without the values that they refer to. So damage elsewhere does
    not matter. The first entry counts, as for Pillow.
    """
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}L", data, 4)
    if start + 2 > len(data):
        return None
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", data, entry)
        if tag == ORIENTATION and kind in INTEGERS and number:
            return int(struct.unpack_from(order + INTEGERS[kind], data, entry + 8)[0])
    return None
