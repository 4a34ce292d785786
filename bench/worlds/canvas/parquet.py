"""The images of UnlearnCanvas from the parquet files on the Hugging Face hub, as the released folders of JPEG files.

The parquet files have a column "image" (the bytes and the name of a file) and a column "text", a caption:

- "A Dogs image in Van Gogh style", with "An" before "Architectures",
- "A Dogs image in photo style" for the photographs, whose folder is `Seed_Images`.

The captions are those that `generate_jsonl_for_diffuser` writes in `diffusion_model_finetuning/dataset_preparation.py`
of github.com/OPTML-Group/UnlearnCanvas at commit 19ed5e7ff3dd2a5f43abb5a227c544f07c33db26. The names of the columns
come from other users' code. The data set was not available to us. So it is not known whether the names of the images
still have their numbers, 1 to 20. Without them, the images of a folder are numbered in the order of the rows.

The data set has more than the 50 styles of the released experiments. Images of other styles are left out.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, STYLE_LABELS
from bench.worlds.canvas.dataset import PER_FOLDER
from bench.worlds.downloads.fetch import FetchError
from bench.worlds.pictures import upright

EXTRA = "canvas"  # the optional dependencies that this module needs
CAPTION = re.compile(r"An? (?P<object>.+?) image in (?P<style>.+) style\.?")
STYLE_OF = {"photo": SEED_IMAGES, **{name.replace("_", " ").lower(): name for name in STYLE_LABELS}}
ROWS = 16  # rows in memory at a time; an image has a few megabytes


@dataclass
class Unpacked:
    """What was found in parquet files.

    Args:
        left_out: style -> the number of its images that were left out, because no experiment uses the style.
        numbered: the number of images that had no number and got one in the order of the rows.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    numbered: int = 0


def require_reader() -> None:
    """Raise FetchError if the library that reads parquet files is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise FetchError(
            f"the images are in parquet files, and pyarrow, which reads them, is not installed: "
            f"pip install -c constraints.txt -e '.[{EXTRA}]'"
        ) from None


def unpack(file: Path, data: Path, so_far: Unpacked) -> None:
    """Write the images of a parquet file as `{style}/{object}/{1..20}.jpg` into the data folder.

    An image is opened and checked before it gets its name. A file that exists is not changed, so an interrupted call
    can be repeated.

    Args:
        file: the parquet file.
        data: the data folder.
        so_far: what was found in earlier files. The function adds to it.

    Raises FetchError for a damaged file, for other columns or captions, for an image that can't be read, and for two
    different images with the same number. Raises OSError if a file can't be read or written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if not {"image", "text"} <= set(columns):
                raise FetchError(f"{file}: its columns are {', '.join(columns)}; expected image and text")
            for batch in table.iter_batches(ROWS, columns=["image", "text"]):
                for row in batch.to_pylist():
                    _keep(file, row["text"], row["image"], data, so_far)
    except pa.ArrowException as error:
        raise FetchError(f"{file} is damaged, or no parquet file ({' '.join(str(error).split())})") from error


def _keep(file: Path, caption: object, image: object, data: Path, so_far: Unpacked) -> None:
    """Write one image, unless it exists or no experiment uses its style."""
    match = CAPTION.fullmatch(caption) if isinstance(caption, str) else None
    if match is None or match["object"] not in OBJECTS:
        raise FetchError(f"{file}: a caption is {caption!r}; expected one like 'A Dogs image in Van Gogh style'")
    style = STYLE_OF.get(match["style"].lower())
    if style is None:
        so_far.left_out[match["style"]] += 1
        return
    content = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(content, bytes):
        raise FetchError(f"{file}: the image of {caption!r} has no bytes")
    folder = data / style / match["object"]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".image.part"
    part.write_bytes(content)
    try:
        target = _target(file, folder, part, _number(image))
        if target.exists():
            return
        upright(part)
        so_far.numbered += _number(image) is None
        os.replace(part, target)
    except WorldUnavailable as error:
        raise FetchError(f"{file}: the image of {caption!r}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _target(file: Path, folder: Path, part: Path, number: int | None) -> Path:
    """The path of an image: the path of the same image if it exists, else by its number, else the first free one.

    Raises FetchError if another image has its number, or if the folder is full.
    """
    places = [folder / f"{i}.jpg" for i in ([number] if number else range(1, PER_FOLDER + 1))]
    for place in _existing(places):
        if filecmp.cmp(place, part, shallow=False):
            return place
    free = next((place for place in places if not place.exists()), None)
    if free is None:
        what = f"it is not the image {places[0]}" if number else f"{folder} has its {PER_FOLDER} images already"
        raise FetchError(f"{file} has an image too many: {what}; delete what is wrong there, then run this again")
    return free


def _existing(places: list[Path]) -> Iterator[Path]:
    return (place for place in places if place.is_file())


def _number(image: object) -> int | None:
    """The number of an image, 1 to 20, from its file name; None if the name has none."""
    name = image.get("path") if isinstance(image, dict) else None
    stem = PurePosixPath(name).stem if isinstance(name, str) else ""
    return int(stem) if stem.isdecimal() and 1 <= int(stem) <= PER_FOLDER else None
