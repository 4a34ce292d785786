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
from collections.abc import Iterator
from pathlib import Path

from bench.backbones import hub
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


def model_files() -> list[Source]:
    """The files of the fine-tuned Stable Diffusion that are loaded. Raises FetchError if the hub does not have them."""
    files = {
        path.removeprefix(f"{MODEL}/"): source
        for path, source in listing(CHECKPOINTS, "model").items()
        if path.startswith(f"{MODEL}/")
    }
    chosen = [files[path] for path in hub.loaded(list(files))]
    if not chosen:
        raise FetchError(f"{CHECKPOINTS.page}: it has no model in the folder {MODEL}; put a pipeline folder there")
    return chosen


def classifier_files(kind: judges.Kind) -> list[Source]:
    """The file of a classifier, from the first repository that has it. Raises FetchError if none has it."""
    folder, problems = judges.FOLDERS[-1], []
    for repository in (CHECKPOINTS, MIRROR):
        try:
            files = listing(repository, f"classifier of {kind}s")
        except FetchError as error:
            problems.append(str(error))
            continue
        for path, source in files.items():
            if Path(path).name == judges.FILES[kind]:
                return [dataclasses.replace(source, folder=folder)]
        problems.append(f"{repository.page} has no {judges.FILES[kind]}")
    raise FetchError("; ".join(problems))


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
