"""Where UnlearnCanvas is published on the Hugging Face hub, and which of its files are missing in the data folder.

- The model and the classifiers: `NormalUhr/UnlearnCanvas-ckpts`, by UnlearnCanvas's first author. The model is the
  folder `diffusion/diffuser/style50`, the classifier of styles is `cls_model/style50.pth`.
- The classifier of objects, `style50_cls.pth`: we did not see it there, since our copy of the list of files was cut
  off. If it is not there, a third party's copy is taken, `datasets/Dexter/ckpt`, which has both classifiers.
- The images: `datasets/OPTML-Group/UnlearnCanvas`, parquet files (`bench.worlds.canvas.parquet`).

In the data folder, each file has the path that it has on the hub. So a folder into which the repositories were
downloaded by other means is as good. We had stored copies of the pages, and could not download any of the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from bench.backbones import hub
from bench.backbones.folder import INDEX
from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas import judges
from bench.worlds.downloads.fetch import FetchError
from bench.worlds.downloads.hub_files import Repository, listing
from bench.worlds.downloads.source import Source

CHECKPOINTS = Repository("NormalUhr/UnlearnCanvas-ckpts")
MIRROR = Repository("Dexter/ckpt", "dataset")  # of a third party
IMAGES = Repository("OPTML-Group/UnlearnCanvas", "dataset")
MODEL = "diffusion/diffuser/style50"  # folder of the fine-tuned Stable Diffusion, in the repository and the data folder
PARQUET = "data"  # folder of the parquet files, in the repository and in the data folder


def checkpoint_files(model: bool, kinds: Sequence[judges.Kind]) -> tuple[list[Source], list[str]]:
    """The files to download for the fine-tuned Stable Diffusion and for classifiers, and what can't be had, and why.

    The third party's repository is asked only for a classifier that is not among the authors' files. It is not asked
    if the hub does not give the list of the authors' files.

    Args:
        model: whether the files of the model are needed.
        kinds: the classifiers that are needed.
    """
    if not model and not kinds:
        return [], []
    files: list[Source] = []
    problems: list[str] = []
    try:
        listed = listing(CHECKPOINTS, "checkpoints")
        if model:
            inside = {path.removeprefix(f"{MODEL}/"): path for path in listed if path.startswith(f"{MODEL}/")}
            files += [listed[inside[path]] for path in hub.loaded(list(inside))]
            problems += [] if INDEX in inside else [f"{CHECKPOINTS.page} has no pipeline ({INDEX}) in {MODEL}"]
        found = {kind: _classifier(listed, kind) for kind in kinds}
        if None in found.values():
            mirrored = listing(MIRROR, "checkpoints")
            found = {kind: source or _classifier(mirrored, kind) for kind, source in found.items()}
        files += [source for source in found.values() if source]
        absent = [judges.FILES[kind] for kind, source in found.items() if not source]
        problems += [f"neither {CHECKPOINTS.page} nor {MIRROR.page} has {name}" for name in absent]
    except FetchError as error:
        problems.append(str(error))
    return files, problems


def _classifier(listed: Mapping[str, Source], kind: judges.Kind) -> Source | None:
    """A classifier among the files of a repository, for its place in the data folder; None if it is not there."""
    found = (source for path, source in listed.items() if PurePosixPath(path).name == judges.FILES[kind])
    return next((dataclasses.replace(source, folder=judges.FOLDERS[-1]) for source in found), None)


def parquet_files(data: Path) -> Iterator[Source]:
    """The parquet files with the images. If the hub can't be asked, those that the user put into the data folder.

    Raises FetchError if the hub can't be asked and the data folder has none.
    """
    placed = [file for file in sorted((data / PARQUET).glob("*.parquet")) if file.is_file()]
    try:
        listed = listing(IMAGES, "images")
    except FetchError:
        if not placed:
            raise
        for file in placed:
            yield Source("images", f"{IMAGES.page}/{PARQUET}/{file.name}", PARQUET, (), file.stat().st_size, None)
        return
    found = [dataclasses.replace(s, gives=()) for path, s in sorted(listed.items()) if path.endswith(".parquet")]
    if not found:
        raise FetchError(f"{IMAGES.page}: it has no parquet files")
    yield from found


def is_third_party(source: Source) -> bool:
    """Whether a file comes from the third party's repository."""
    return source.url.startswith(f"{MIRROR.page}/")


def model_folder(data: Path) -> str:
    """The folder of the fine-tuned Stable Diffusion in the data folder. Raises WorldUnavailable if it is missing."""
    folder = data / MODEL
    if not folder.is_dir():
        raise WorldUnavailable(f"{folder} is missing")
    return str(folder)
