"""The files of a pipeline folder that are loaded, and their digest.

This module loads no network. It only reads the JSON files of the folder, except for the digest.
"""

from __future__ import annotations

import json
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
LARGE_BATCH_SIDE = 128  # images of this side in pixels are sampled in batches of LARGE_BATCH
LARGE_BATCH = 64


def files(folder: Path) -> list[Path]:
    """The files that `bench.backbones.pipeline.load` reads: settings, tokenizer, and the weights of each network.

    The safety checker, the feature extractor, half-precision copies, pickles next to safetensors files, and single
    files are not read. Raises FileNotFoundError if a part is missing.
    """
    return [folder / INDEX, *(file for part in (*NETWORKS, *OTHERS) for file in part_files(folder, part))]


def content(folder: Path) -> str:
    """Digest of the relative paths and bytes of `files`. Raises FileNotFoundError if a part is missing."""
    return digest.of_files(folder, files(folder))


def picture_size(folder: Path) -> tuple[int, int]:
    """Height and width of the pipeline's images in pixels."""
    size = config(folder, "unet")["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    scale = 2 ** (len(config(folder, "vae")["block_out_channels"]) - 1)
    return height * scale, width * scale


def text_length(folder: Path) -> int:
    """The largest number of tokens that the text encoder takes, with those of the start and the end of a prompt."""
    return int(read_json(folder / "text_encoder" / "config.json")["max_position_embeddings"])


def usual_batch(folder: Path) -> int:
    """The default batch size for sampling: 64 images of up to 128 pixels a side, or 16 images of 512 pixels."""
    return max(1, LARGE_BATCH * LARGE_BATCH_SIDE // max(LARGE_BATCH_SIDE, *picture_size(folder)))


def noise_of(folder: Path) -> NoiseSchedule:
    """The noise schedule of the folder's model. Raises ValueError like `bench.backbones.noise_schedule.read`."""
    return noise_schedule.read(scheduler_settings(folder), str(folder))


def scheduler_settings(folder: Path) -> dict[str, Any]:
    """All settings of the folder's scheduler. Only `noise_of` may decide how a model is trained or sampled."""
    return read_json(folder / noise_schedule.FILE)


def config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of one network. Raises FileNotFoundError or ValueError if it can't be read."""
    return read_json(folder / part / "config.json")


def weights(folder: Path, part: str) -> list[Path]:
    """The files with the weights of one network: one file, or an index and the files that it names.

    Raises FileNotFoundError if there are none, and ValueError if there are two of one format, since libraries differ in
    which one they load.
    """
    return weights_in(folder / part, part)


def weights_in(within: Path, part: str) -> list[Path]:
    """The same for a folder of one network, whatever its name is. `part` says which network it is."""
    stems = [NETWORKS[part] + ".safetensors", PICKLED.get(part, NETWORKS[part]) + ".bin"]
    for name in stems:
        whole, index = within / name, within / f"{name}.index.json"
        if whole.is_file() and index.is_file():
            raise ValueError(f"{within} contains both {name} and {index.name}; remove the one that is not the model")
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [index, *(_there(within / shard) for shard in sorted(set(weight_map(index).values())))]
    beside = sorted(p.name for p in within.iterdir() if p.is_file()) if within.is_dir() else []
    raise FileNotFoundError(
        f"{within.parent}: {within.name} has no weights ({' or '.join(stems)}), only {', '.join(beside) or 'no file'}"
    )


def weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file name, from the index of weights in several files. Raises ValueError if it is damaged."""
    content = read_json(index)
    found = content.get("weight_map")
    if not isinstance(found, dict) or not found or not isinstance(content.get("metadata"), dict):
        raise ValueError(f"{index} is damaged: it must contain 'weight_map' and 'metadata'")
    if wrong := [name for name in found.values() if not isinstance(name, str) or Path(name).name != name]:
        raise ValueError(f"{index} is damaged: {wrong[0]!r} is not the name of a file beside it")
    return found


def part_files(folder: Path, part: str) -> list[Path]:
    """The files of one part that are loaded. Raises FileNotFoundError if one is missing."""
    within = folder / part
    if part not in OTHERS:
        return [_there(within / "config.json"), *weights(folder, part)]
    found = sorted(p for p in within.rglob("*") if p.is_file() and not is_junk(p.name))
    if not found:
        raise FileNotFoundError(f"{folder}: {part} is missing")
    return found


def _there(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing")
    return file


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, and ValueError if the file is damaged."""
    try:
        read = json.loads(_there(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{file} is damaged: it must contain a JSON object, not {type(read).__name__}")
    return read
