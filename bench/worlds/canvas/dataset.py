"""The UnlearnCanvas data set as released: `{style}/{object}/{1..20}.jpg`. `Seed_Images` holds the photographs.

The layout and the indices come from the code that reads the data set in github.com/OPTML-Group/UnlearnCanvas, commit
19ed5e7ff3dd2a5f43abb5a227c544f07c33db26:

- `diffusion_model_finetuning/dataset_preparation.py`: a folder has 20 images. The released model was fine-tuned on
  images 1 to 18.
- `machine_unlearning/evaluation/quantitative/fid.py`: the reference images of FID are images 1 to 5.

The reference images of the published FID are therefore training images of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.worlds import data_folder
from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS
from bench.worlds.pictures import picture

PER_FOLDER = 20
TRAINED_ON = 18  # the released Stable Diffusion was fine-tuned on images 1 to 18 of each folder
IN_REFERENCE = 5  # the reference images of the published FID are images 1 to 5 of each folder
RELEASE = "https://drive.google.com/drive/folders/1sJBLhng3I2fD3dbEzxx_Jvm1bMBcMQH7"
SOURCE = (
    "The data set has folders {style}/{object}/{1..20}.jpg. `run_bench.py prepare canvas` makes them from the parquet "
    f"files of huggingface.co/datasets/OPTML-Group/UnlearnCanvas; {RELEASE} has the folders themselves"
)

__all__ = ["PER_FOLDER", "picture", "pictures", "reference", "reference_without", "verify", "wrong"]


def pictures(data: Path, style: str, object: str) -> tuple[Path, ...]:
    """The paths of the 20 images of an object in a style, in numeric order. "Seed_Images" is the style of photographs.

    Raises ValueError for an unknown name, and WorldUnavailable if the folder does not hold exactly 1.jpg to 20.jpg.
    """
    _known(style, STYLE_LABELS, "style")
    _known(object, OBJECTS, "object")
    if problem := _wrong(data, style, object):
        raise WorldUnavailable(f"{problem}. {SOURCE}")
    return tuple(data / style / object / f"{i}.jpg" for i in range(1, PER_FOLDER + 1))


def verify(data: Path) -> None:
    """Check that all 51 x 20 folders have their 20 images. The check does not open the images.

    Raises WorldUnavailable with the number of wrong folders and with the contents of the first three of them.
    """
    if problem := wrong(data):
        raise WorldUnavailable(f"{problem}. {SOURCE}")


def wrong(data: Path) -> str:
    """A description of the first three folders that are not as released, and their number; "" if all are right."""
    if not data.is_dir():
        return f"{data} is no folder"
    found = [_wrong(data, style, object) for style in STYLE_LABELS for object in OBJECTS]
    problems = [one for one in found if one]
    if not problems:
        return ""
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    head = f"{len(problems)} of {len(found)} folders of UnlearnCanvas are not as released"
    return f"{head}: {'; '.join(problems[:3])}{more}"


def reference(data: Path, concept: str, count: int) -> tuple[Path, ...]:
    """The paths of the first `count` reference images of the published FID for a style or for an object.

    The paths are sorted by image index. The images of one index have the label order of the objects (for a style) or of
    the styles (for an object). A style has 20 x 5 images, and an object has 51 x 5 images.

    Raises ValueError for an unknown name, for a `count` below 1 or for a `count` that is too large, and
    WorldUnavailable like `pictures`.
    """
    if concept in STYLE_LABELS:
        folders = [pictures(data, concept, object) for object in OBJECTS]
    else:
        _known(concept, OBJECTS, "style or object")
        folders = [pictures(data, style, concept) for style in STYLE_LABELS]
    files = tuple(folder[i] for i in range(IN_REFERENCE) for folder in folders)
    if not 1 <= count <= len(files):
        raise ValueError(f"the published reference has {len(files)} pictures of {concept}, not {count}")
    return files[:count]


def reference_without(data: Path, target: str) -> tuple[Path, ...]:
    """The paths of the reference images of the published FID for a model that forgot `target`.

    They are five images of each folder, without the folders of the target: 50 x 20 x 5 images for a style, 51 x 19 x 5
    images for an object.

    The published figures resize these images and the answer set to 512 pixels and then to 299 pixels. Both steps use
    OpenCV's bilinear filter, which does not average. The features are the last pooling layer of torchvision's
    Inception v3.

    Raises ValueError for an unknown `target`, and WorldUnavailable like `pictures`.
    """
    _known(target, (*STYLE_LABELS, *OBJECTS), "style or object")
    styles = [style for style in STYLE_LABELS if style != target]
    objects = [object for object in OBJECTS if object != target]
    return tuple(path for s in styles for o in objects for path in pictures(data, s, o)[:IN_REFERENCE])


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        raise ValueError(f"{name!r} is no {what} of UnlearnCanvas; known: {', '.join(names)}")


def _wrong(data: Path, style: str, object: str) -> str:
    """A description of the error in a folder; "" if the folder is right."""
    folder = data / style / object
    if not folder.is_dir():
        return f"{folder} is missing; expected there: 1.jpg to {PER_FOLDER}.jpg"
    found = {name for name in data_folder.names(folder, data) if Path(name).suffix.lower() in (".jpg", ".jpeg")}
    expected = {f"{i}.jpg" for i in range(1, PER_FOLDER + 1)}
    if found == expected:
        return ""
    missing = sorted(expected - found, key=lambda name: int(name.removesuffix(".jpg")))
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"unexpected: {', '.join(sorted(found - expected)[:3])}"] if found - expected else []
    return f"{folder} holds {len(found)} pictures, expected 1.jpg to {PER_FOLDER}.jpg ({'; '.join(parts)})"
