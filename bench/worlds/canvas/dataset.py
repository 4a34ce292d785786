"""The UnlearnCanvas data set as released: `{style}/{object}/{1..20}.jpg`, the photographs under `Seed_Images`.

Layout and indices from the readers in github.com/OPTML-Group/UnlearnCanvas, commit
19ed5e7ff3dd2a5f43abb5a227c544f07c33db26: `diffusion_model_finetuning/dataset_preparation.py` (20 pictures a folder, of
which the released model was fine-tuned on 1 to 18) and `machine_unlearning/evaluation/quantitative/fid.py` (FID's
reference, 1 to 5). So the published FID compares with pictures that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS
from bench.worlds.pictures import picture

PER_FOLDER = 20
TRAINED_ON = 18  # the released Stable Diffusion was fine-tuned on pictures 1 to this one of each folder
IN_REFERENCE = 5  # pictures 1 to this one of each folder are what the published FID compares with
RELEASE = "https://drive.google.com/drive/folders/1sJBLhng3I2fD3dbEzxx_Jvm1bMBcMQH7"
SOURCE = (
    f"The data set is had from {RELEASE} (linked from github.com/OPTML-Group/UnlearnCanvas) as folders "
    "{style}/{object}/{1..20}.jpg; the copy on Hugging Face is parquet, without the numbers"
)

__all__ = ["PER_FOLDER", "picture", "pictures", "reference", "reference_without", "verify"]


def pictures(data: Path, style: str, object: str) -> tuple[Path, ...]:
    """The paths of the 20 images of an object in a style, in numeric order. "Seed_Images" are the photographs.

    Raises ValueError for an unknown name, and WorldUnavailable if the folder does not hold exactly 1.jpg to 20.jpg.
    """
    _known(style, STYLE_LABELS, "style")
    _known(object, OBJECTS, "object")
    wrong = _wrong(data, style, object)
    if wrong:
        raise WorldUnavailable(f"{wrong}. {SOURCE}")
    return tuple(data / style / object / f"{i}.jpg" for i in range(1, PER_FOLDER + 1))


def verify(data: Path) -> None:
    """Check that all 51 x 20 folders have their 20 images. No image is opened.

    Raises WorldUnavailable with the number of wrong folders and with what the first of them hold.
    """
    if not data.is_dir():
        raise WorldUnavailable(f"{data} is no folder. {SOURCE}")
    found = [_wrong(data, style, object) for style in STYLE_LABELS for object in OBJECTS]
    wrong = [one for one in found if one]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        head = f"{len(wrong)} of {len(found)} folders of UnlearnCanvas are not as released"
        raise WorldUnavailable(f"{head}: {'; '.join(wrong[:3])}{more}. {SOURCE}")


def reference(data: Path, concept: str, count: int) -> tuple[Path, ...]:
    """The first `count` reference images of a style or of an object, out of those of the published FID.

    They are sorted by index, then by the other axis in label order. A style has 20 x 5 images, an object 51 x 5. Raises
    ValueError for an unknown name or a `count` that is too large, and WorldUnavailable as `pictures` does.
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
    """What the published FID compares a model that forgot `target` with: five pictures a folder, the target's left out.

    50 x 20 x 5 of them for a style, 51 x 19 x 5 for an object. Published figures resize these and the answer set to
    512 and then to 299 pixels, both by OpenCV's bilinear filter that does not average, and take the last pooling layer
    of torchvision's Inception v3. Raises as `reference`.
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
    found = {path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")}
    expected = {f"{i}.jpg" for i in range(1, PER_FOLDER + 1)}
    if found == expected:
        return ""
    missing = sorted(expected - found, key=lambda name: int(name.removesuffix(".jpg")))
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"unexpected: {', '.join(sorted(found - expected)[:3])}"] if found - expected else []
    return f"{folder} holds {len(found)} pictures, expected 1.jpg to {PER_FOLDER}.jpg ({'; '.join(parts)})"
