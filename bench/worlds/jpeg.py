"""Finds JPEG files that are cut short although a decoder does not say so.

JPEG has no checksums. If the compressed data end too early but a marker follows, libjpeg fills the rest of the picture
with grey and only warns, and Pillow does not pass the warning on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

MARKER = re.compile(rb"\xff+[^\x00\xff]")
SCAN_ENDS = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # within compressed data FF 00 is a byte; D0 to D7 are restarts
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
ALONE = {*range(0xD0, 0xD9), 0x01}  # markers without a length
START_OF_SCAN, END = 0xDA, 0xD9
ARITHMETIC = range(0xC9, 0xD0)  # frames whose data may end early: a decoder takes what is missing for zeros
MORE = bytes((167 * i + 91) % 255 for i in range(255))  # compressed data without a marker, for some blocks


def require_whole(data: bytes, image: Image.Image) -> None:
    """Raise ValueError if a JPEG file is cut short.

    Args:
        data: the bytes of the file.
        image: the image that Pillow loaded from it.
    """
    frames, ends, is_ended = _structure(data)
    if not is_ended:
        raise ValueError("it has no end marker")
    if frames.isdisjoint(ARITHMETIC) and _changes(data, ends, image):
        raise ValueError("its compressed data end early")


def _structure(data: bytes) -> tuple[set[int], list[int], bool]:
    """The markers of the file, where the compressed data of each scan end, and whether an end marker follows them."""
    markers, ends = set[int](), list[int]()
    position = 0
    while found := MARKER.search(data, position):
        marker, position = found.group()[-1], found.end()
        markers.add(marker)
        if marker == END and ends:
            return markers, ends, True
        if marker in ALONE or marker == END:
            continue
        position += int.from_bytes(data[position : position + 2])
        if marker == START_OF_SCAN:
            scan_end = SCAN_ENDS.search(data, position)
            if scan_end is None:
                break
            position = scan_end.start()
            ends.append(position)
    return markers, ends, False


def _changes(data: bytes, ends: Sequence[int], image: Image.Image) -> bool:
    """Whether the picture changes if more compressed data follow each scan. A decoder ignores them after a whole scan.

    In a file with restart markers, a decoder expects the next of these markers among the data.
    """
    longer, start = bytearray(), 0
    for end in ends:
        restarts = RESTART.findall(data, start, end)
        after = 0xD0 + (restarts[-1][1] - 0xD0 + 1) % 8 if restarts else 0xD0
        longer += data[start:end] + MORE + bytes([0xFF, after]) + MORE
        start = end
    with Image.open(io.BytesIO(bytes(longer + data[start:]))) as changed:
        return not np.array_equal(np.asarray(changed), np.asarray(image))
