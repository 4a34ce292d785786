"""Converts a single `.safetensors` file of Stable Diffusion, in the layout of its authors, to a pipeline folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from bench.backbones import folder as pipeline_folder
from bench.core import digest
from bench.core.filenames import is_junk

SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
CROSS = ".attn2.to_k.weight"
WIDTHS = {768: "sd15"}  # width of the prompt embeddings -> a model with the same settings
NEEDS = "--backbone-config takes the settings from a name, a hub id or a folder, e.g. --backbone-config"


def cache() -> Path:
    """The folder of converted files: `lethe/backbones` in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lethe" / "backbones"


def usual_settings(file: Path) -> str:
    """The name of a model whose configuration and tokenizer fit the file.

    Raises ValueError for a file of another model, and for a file from which the settings can't be determined.
    """
    shapes = _shapes(file)
    if FIRST not in shapes:
        what = "Stable Diffusion 3 or another model" if shapes else "an empty file"
        if any("lora" in name for name in shapes):
            what = "a LoRA, which changes a model but is not a model"
        elif "conv_in.weight" in shapes:
            what = "one network of a diffusers folder; give the folder"
        raise ValueError(f"{file} is not a single file of Stable Diffusion 1.x or 2.x, but {what}")
    if any(name.startswith("conditioner.embedders.") for name in shapes):
        raise ValueError(f"{file} is Stable Diffusion XL; methods work on Stable Diffusion 1.x, or 2.x base")
    if shapes[FIRST][1] != 4:
        raise ValueError(f"{file}: its U-Net takes {shapes[FIRST][1]} channels, for in-painting or another use; not 4")
    width = next((shape[-1] for name, shape in shapes.items() if name.endswith(CROSS)), 0)
    if width == 1024:
        raise ValueError(
            f"{file} is of Stable Diffusion 2.x, and such a file does not say whether it predicts noise (base, 512 "
            f"pixels) or v (768 pixels). {NEEDS} sd21-base"
        )
    if width not in WIDTHS:
        raise ValueError(f"{file}: no settings are known for a model with prompts of width {width}. {NEEDS} DIR")
    return WIDTHS[width]


def folder_of(file: Path, settings: Path) -> Path:
    """The pipeline folder of a file, in float32. diffusers converts the file once, and `cache` keeps the folder.

    Args:
        file: a file in the layout of the original authors.
        settings: folder with model_index.json, the configuration of every part, and the tokenizer.

    Raises ValueError for a file that does not fit the settings.
    """
    given = {p.relative_to(settings).as_posix(): digest.of_file(p) for p in _settings(settings)}
    made = cache() / digest.of_json([digest.of_file(file), given])[:24]
    if not made.exists():
        _convert(file, settings, made)
    return made


def _settings(folder: Path) -> list[Path]:
    parts = [folder / part / "config.json" for part in pipeline_folder.NETWORKS]
    others = [p for part in pipeline_folder.OTHERS for p in sorted((folder / part).glob("*")) if not is_junk(p.name)]
    if missing := [p for p in (folder / pipeline_folder.INDEX, *parts) if not p.is_file()]:
        raise FileNotFoundError(f"--backbone-config: {missing[0]} is missing")
    return [folder / pipeline_folder.INDEX, *parts, *others]


def _convert(file: Path, settings: Path, made: Path) -> None:
    import diffusers  # seconds to import; lists need none of it
    import transformers

    made.parent.mkdir(parents=True, exist_ok=True)
    quiet = diffusers.utils.logging
    quiet.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    verbosity = quiet.get_verbosity()
    quiet.set_verbosity_error()  # it warns of its own casts
    try:
        pipeline = diffusers.StableDiffusionPipeline.from_single_file(
            str(file),
            config=str(settings),
            dtype=torch.float32,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
        )
    except Exception as error:  # diffusers raises many kinds of errors for a file that it does not expect
        said = " ".join(str(error).split())[:400]
        raise ValueError(f"{file} does not fit the settings in {settings}: {type(error).__name__}: {said}") from error
    finally:
        quiet.set_verbosity(verbosity)
    with tempfile.TemporaryDirectory(prefix=".lethe-", dir=made.parent) as work:
        pipeline.save_pretrained(Path(work) / "pipeline")
        try:
            os.rename(Path(work) / "pipeline", made)
        except OSError:
            if not made.exists():  # if it exists, another process has converted the same file
                raise


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged, or no {SUFFIX} file: {error}") from error
