"""The files of a pipeline folder that are loaded, their digest, and whether methods can work on the pipeline.

This module loads no network. It only reads the JSON files of the folder, except for the digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.backbones import noise_schedule
from bench.backbones.noise_schedule import NoiseSchedule
from bench.core import digest
from bench.core.filenames import is_junk

INDEX = "model_index.json"
NETWORKS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLED = {"text_encoder": "pytorch_model"}  # the file name of pickled weights, where it differs from NETWORKS
OTHERS = ("tokenizer", "scheduler")  # parts of which all files are loaded
PIPELINE = "StableDiffusionPipeline"
LARGE_BATCH_SIDE = 128  # images of this side in pixels are sampled in batches of LARGE_BATCH
LARGE_BATCH = 64


def files(folder: Path) -> list[Path]:
    """The files that `bench.backbones.pipeline.load` reads: settings, tokenizer, and the weights of each network.

    The safety checker, the feature extractor, half-precision copies, pickles next to safetensors files, and single
    files are not read. Raises FileNotFoundError if a part is missing.
    """
    return [folder / INDEX, *(file for part in (*NETWORKS, *OTHERS) for file in _part(folder, part))]


def content(folder: Path) -> str:
    """Digest of the relative paths and bytes of `files`. Raises FileNotFoundError if a part is missing."""
    return digest.of_files(folder, files(folder))


def picture_size(folder: Path) -> tuple[int, int]:
    """Height and width of the pipeline's images in pixels."""
    size = _json(folder / "unet" / "config.json")["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    scale = 2 ** (len(_json(folder / "vae" / "config.json")["block_out_channels"]) - 1)
    return height * scale, width * scale


def usual_batch(folder: Path) -> int:
    """The default batch size for sampling: 64 images of up to 128 pixels a side, or 16 images of 512 pixels."""
    return max(1, LARGE_BATCH * LARGE_BATCH_SIDE // max(LARGE_BATCH_SIDE, *picture_size(folder)))


def require_usable(folder: Path) -> None:
    """Raises ValueError if the settings of the pipeline show that methods can't work on it."""
    kind = _json(folder / INDEX).get("_class_name")
    if kind != PIPELINE:
        raise ValueError(f"{folder} is a {kind}; methods work on a {PIPELINE}: Stable Diffusion 1.x, or 2.x base")
    unet = _json(folder / "unet" / "config.json")
    takes, gives = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if takes != gives:
        use = {9: "in-painting", 8: "editing pictures", 5: "depth maps", 7: "upscaling"}.get(takes, "another use")
        raise ValueError(
            f"{folder}: its U-Net takes {takes} channels and predicts {gives}, for {use}; "
            "methods give it noisy latents alone"
        )
    noise_of(folder)


def noise_of(folder: Path) -> NoiseSchedule:
    """The noise schedule of the folder's model. Raises ValueError like `bench.backbones.noise_schedule.read`."""
    return noise_schedule.read(scheduler_settings(folder), str(folder))


def scheduler_settings(folder: Path) -> dict[str, Any]:
    """All settings of the folder's scheduler. Only `noise_of` may decide how a model is trained or sampled."""
    return _json(folder / noise_schedule.FILE)


def _part(folder: Path, part: str) -> Iterator[Path]:
    within = folder / part
    if part in OTHERS:
        part_files = sorted(p for p in within.rglob("*") if p.is_file() and not is_junk(p.name))
        if not part_files:
            raise FileNotFoundError(f"{folder}: {part} is missing")
        yield from part_files
        return
    yield _there(within / "config.json")
    stems = [NETWORKS[part] + ".safetensors", PICKLED.get(part, NETWORKS[part]) + ".bin"]
    for name in stems:
        if (within / name).is_file():
            yield within / name
            return
        index = within / f"{name}.index.json"
        if index.is_file():
            yield index
            yield from (_there(within / shard) for shard in sorted(set(_json(index)["weight_map"].values())))
            return
    beside = sorted(p.name for p in within.iterdir() if p.is_file())
    raise FileNotFoundError(f"{folder}: {part} has no weights ({' or '.join(stems)}), only {', '.join(beside)}")


def _there(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing")
    return file


def _json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(_there(file).read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{file} is damaged: it must contain a JSON object, not {type(read).__name__}")
    return read
