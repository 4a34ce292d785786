"""Pipeline folders that Lethe makes from other files, in a cache: from single files, and from unusual file names.

A cached folder is written to a temporary folder beside it, which is renamed in one step. So no incomplete folder stays.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from bench.backbones import folder as pipeline_folder
from bench.core import digest

VARIABLE = "XDG_CACHE_HOME"
EMA, NON_EMA = "ema", "non_ema"
CHOICES = (EMA, NON_EMA)  # values of --backbone-weights
HALF = ("fp32", "fp16", "bf16")  # endings of the names of weights in one precision, the preferred one first


class CannotWrite(OSError):
    """The cache can't be written. The message says which folder it is, and which variable moves it."""


def cache() -> Path:
    """The folder of converted models: `lethe/backbones` in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache") / "lethe" / "backbones"


def make(key: str, size: int, fill: Callable[[Path], None]) -> Path:
    """The cached folder called `key`; `fill` writes it if it does not exist.

    Args:
        key: name of the folder, from the digests of everything that it depends on.
        size: bytes that the folder needs.
        fill: writes into an empty folder.

    Raises CannotWrite if the cache can't be written or has too little space, and every exception of `fill`.
    """
    made = cache() / key
    if made.is_dir():
        return made
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lethe-", dir=made.parent, ignore_cleanup_errors=True) as work:
            free = shutil.disk_usage(work).free
            if free < size:
                raise OSError(errno.ENOSPC, f"{size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")
            fill(Path(work) / "pipeline")
            try:
                os.rename(Path(work) / "pipeline", made)
            except OSError:
                if not made.is_dir():  # if it exists, another process has made the same folder
                    raise
    except (OSError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) and made.parent.is_dir():
            raise  # a file of the model is missing, not the cache
        said = getattr(error, "strerror", None) or str(error)
        raise CannotWrite(
            f"the folder {cache()} for converted models can't be written ({said}); {VARIABLE} moves it: set it to a "
            "folder with enough space"
        ) from error
    return made


def arranged(folder: Path, choice: str | None = None) -> Path:
    """A folder with the weights of `folder` under the names that diffusers looks for first.

    Such a folder is made in the cache if `folder` contains weights only under other names, such as
    diffusion_pytorch_model.fp16.safetensors, or if `choice` selects other weights of the U-Net. Otherwise the result is
    `folder`.

    Raises ValueError if there are no weights of the kind `choice`, FileNotFoundError if weights are missing, and
    CannotWrite.
    """
    files = sources(folder, choice)
    if all(folder / target == source for source, target in files.items()):
        return folder

    def fill(work: Path) -> None:
        for source, target in files.items():
            (work / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, work / target)

    size = sum(source.stat().st_size for source in files)
    return make(digest.of_json({target: digest.of_file(p) for p, target in files.items()})[:24], size, fill)


def sources(folder: Path, choice: str | None = None) -> dict[Path, str]:
    """The files of a model -> their paths in a folder with usual names. Raises like `arranged`, except CannotWrite."""
    others = {part: file for part in pipeline_folder.NETWORKS if (file := _other_name(folder, part)) is not None}
    if choice is not None:
        others["unet"] = _chosen(folder, choice)
    found = {folder / pipeline_folder.INDEX: pipeline_folder.INDEX}
    for part in (*pipeline_folder.NETWORKS, *pipeline_folder.OTHERS):
        if part in others:
            stem, end = pipeline_folder.NETWORKS[part], others[part].suffix
            stem = pipeline_folder.PICKLED.get(part, stem) if end == ".bin" else stem
            found |= {folder / part / "config.json": f"{part}/config.json", others[part]: f"{part}/{stem}{end}"}
        else:
            found |= {p: p.relative_to(folder).as_posix() for p in pipeline_folder.part_files(folder, part)}
    return found


def other_weights(folder: Path) -> list[str]:
    """The weights of the U-Net in `folder` besides the usual ones, as values of --backbone-weights."""
    return [choice for choice in CHOICES if _found(folder, choice) is not None]


def _other_name(folder: Path, part: str) -> Path | None:
    """The weights of a network in one precision, if there are none under the usual name."""
    try:
        pipeline_folder.weights(folder, part)
    except FileNotFoundError:
        files = (folder / part / f"{pipeline_folder.NETWORKS[part]}.{end}.safetensors" for end in HALF)
        return next((file for file in files if file.is_file()), None)
    return None


def _chosen(folder: Path, choice: str) -> Path:
    found = _found(folder, choice)
    if found is None:
        have = other_weights(folder)
        raise ValueError(
            f"--backbone-weights {choice}: {folder} has no such weights of the U-Net"
            + (f"; it has {' and '.join(have)}" if have else ", only the usual ones; leave the flag out")
        )
    return found


def _found(folder: Path, choice: str) -> Path | None:
    stem = pipeline_folder.NETWORKS["unet"]
    places = [folder / "unet" / f"{stem}.{choice}", folder / f"unet_{choice}" / stem]
    files = (place.with_name(f"{place.name}{end}") for place in places for end in (".safetensors", ".bin"))
    return next((file for file in files if file.is_file()), None)
