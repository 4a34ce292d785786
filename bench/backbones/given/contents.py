"""Reads what a file or folder of a finished model contains: the tensors of each network, by the names in the file.

A file is recognised by its content, whatever its name is.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes

from bench.backbones import folder as pipeline_folder
from bench.backbones.checks import tensor_check
from bench.backbones.checks.tensor_check import TensorMismatch
from bench.backbones.given import compvis, lora
from bench.backbones.pipeline import TEXT
from bench.core.filenames import is_junk

Tensors = dict[str, torch.Tensor]
XZ = ".xz"
NETWORKS = ("unet", "text_encoder", "vae")
# entries of a pickle that hold the tensors
WRAPPERS = ("state_dict", "model_state_dict", "unet_state_dict", "model", "params")
AROUND = ("module.", "_orig_mod.")  # prefixes of all names, where a training ran on several GPUs or was compiled
POINTER = b"version https://git-lfs"  # start of a file that git wrote in the place of a large one
COMPVIS_TEXT = "cond_stage_model.transformer."
EMA = "model_ema."
SAE = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}
NO_WEIGHTS = (
    "{} is {}: it changes what the networks compute, and none of their weights, so there is no weight to measure; "
    "write it as a method with `attach` (docs/add-a-method.md)"
)
CONVERT = (
    "torch.save(model.state_dict(), FILE), on a machine that has its code, writes a file that can be read without "
    "running any code"
)


@dataclass
class Contents:
    """The tensors that a file or folder contains.

    Args:
        where: the file or folder, for messages.
        networks: network (one of NETWORKS) -> its tensors, by the names in the file.
        adapters: the tensors of low-rank adapters.
        whole: networks that the file promises to contain whole, as a folder of diffusers does.
        ema: whether the file also contains EMA weights, which are not read.
        other: tensors that belong to none of them.
    """

    where: Path
    networks: dict[str, Tensors] = field(default_factory=dict)
    adapters: Tensors = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    ema: bool = False
    other: Tensors = field(default_factory=dict)


def files_of(path: Path) -> list[Path]:
    """The files of a model that are read: `path` itself with its settings, or the files in the folder `path`.

    Raises ValueError for a folder that is not a model.
    """
    file = lora.file_in(path) if path.is_dir() else path
    if file is not None:
        beside = lora.settings_file(file)
        return [file, *([beside] if beside else [])]
    found = [file for root, part in _parts(path) for file in pipeline_folder.weights_in(root, part)]
    if found:
        return found
    if (path / "cfg.json").is_file() and list(path.glob("*.safetensors")):
        raise ValueError(NO_WEIGHTS.format(path, "a sparse autoencoder (SAeUron)"))
    if (path / "eraser_config.json").is_file():
        raise ValueError(NO_WEIGHTS.format(path, "a set of adapters of Receler"))
    names = sorted(entry.name for entry in path.iterdir() if not is_junk(entry.name))
    raise ValueError(
        f"{path} is not a model: it must have {pipeline_folder.INDEX} (a pipeline), config.json (a U-Net or a text "
        f"encoder of diffusers), or adapters; it has {', '.join(names[:5]) or 'no file'}"
    )


def read(path: Path, values: bool) -> Contents:
    """What a file or folder contains.

    Args:
        path: the file or folder.
        values: whether to read the tensors' values; otherwise the tensors are on the device "meta".

    Raises ValueError (TensorMismatch is a subclass) for a file that is damaged, for one that runs code when it is
    loaded, and for one that contains no weights. Raises FileNotFoundError if a part is missing.
    """
    if not path.is_dir():
        return _of_file(path, values)
    files = files_of(path)
    if (file := lora.file_in(path)) is not None:
        return _of_file(file, values)
    contents = Contents(path)
    for root, part in _parts(path):
        tensors: Tensors = {}
        for file in files:
            if file.parent == root and file.suffix != ".json":
                tensors |= _flat(file, _content(file, values))
        contents.networks[part] = tensors
    contents.whole = tuple(contents.networks)
    return contents


def _parts(folder: Path) -> list[tuple[Path, str]]:
    """The folders of networks in a folder, and the name of each network.

    Raises FileNotFoundError if one of several networks has no settings.
    """
    if (folder / pipeline_folder.INDEX).is_file() or not (folder / "config.json").is_file():
        there = [part for part in NETWORKS if (folder / part).is_dir()]
        settings_of_all = [folder / pipeline_folder.INDEX, *(folder / part / "config.json" for part in there)]
        if not any(file.is_file() for file in settings_of_all):
            return []
        for part in there:
            pipeline_folder.config(folder, part)  # raises FileNotFoundError without it
        return [(folder / part, part) for part in there]
    settings = pipeline_folder.read_json(folder / "config.json")
    if settings.get("_class_name") == "UNet2DConditionModel":
        return [(folder, "unet")]
    if str(settings.get("model_type", "")).startswith("clip"):
        return [(folder, "text_encoder")]
    what = settings.get("_class_name") or settings.get("model_type") or "of an unknown class"
    raise ValueError(
        f"{folder}: its config.json is {what}, and not a U-Net (UNet2DConditionModel) or a CLIP text encoder"
    )


def _of_file(file: Path, values: bool) -> Contents:
    content = _unwrapped(_content(file, values))
    held = content if isinstance(content, Mapping) else {}
    parts = [part for part in NETWORKS if isinstance(held.get(part), Mapping) and held[part]]
    contents = Contents(file)
    if parts:  # Custom Diffusion, Concept Ablation, DoCo
        networks = {part: _flat(file, held[part], f"{part}.") for part in parts}
        if not lora.is_lora(name for inner in networks.values() for name in inner):
            contents.networks = networks
            return contents
        content = {f"{part}.{name}": tensor for part, inner in networks.items() for name, tensor in inner.items()}
    tensors = _flat(file, content)
    if lora.is_lora(tensors):
        contents.adapters = lora.scaled(file, tensors)
        return contents
    if set(tensors) >= SAE:
        raise ValueError(NO_WEIGHTS.format(file, "a sparse autoencoder (SAeUron)"))
    contents.ema = any(name.startswith(EMA) for name in tensors)
    starts = {
        compvis.PREFIX: "unet", COMPVIS_TEXT: "text_encoder", "unet.": "unet", TEXT: "text_encoder", "vae.": "vae",
        "first_stage_model.": "vae", "text_model.": "text_encoder",
    }  # fmt: skip
    for name, tensor in tensors.items():
        start = next((start for start in starts if name.startswith(start)), None)
        if start is None:
            contents.other[name] = tensor
        else:
            short = name if start in ("first_stage_model.", "text_model.") else name.removeprefix(start)
            contents.networks.setdefault(starts[start], {})[short] = tensor
    return contents


def _content(file: Path, values: bool) -> Any:
    """The content of one file: tensors by name, or what was pickled."""
    try:
        if file.name.endswith(XZ):
            with lzma.open(file) as stream:
                return load_bytes(stream.read()) if values else tensor_check.streamed_header(stream, file)
        if tensor_check.is_safetensors(file):
            return tensor_check.load(file) if values else tensor_check.header(file)
        if tensor_check.is_pickle(file):
            return _unpickled(file, values)
        with file.open("rb") as stream:
            if stream.read(len(POINTER)) == POINTER:
                raise TensorMismatch(f"{file} is git's pointer to a file, not the file; `git lfs pull` gets the file")
    except (lzma.LZMAError, EOFError, SafetensorError, OSError) as error:
        raise TensorMismatch(f"{file} is damaged: {error}") from error
    raise TensorMismatch(f"{file} is damaged, or is neither a safetensors file nor a file of torch.save")


def _unpickled(file: Path, values: bool) -> Any:
    try:
        return tensor_check.unpickled(file, "cpu" if values else "meta")
    except TensorMismatch as error:
        if "any code" in str(error):
            raise TensorMismatch(f"{error}; {CONVERT}") from error
        raise


def _tensors(content: Mapping[Any, Any]) -> Tensors:
    """The tensors of a mapping, and the alphas of adapters, which some tools write as plain numbers."""
    found = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    alphas = {
        str(name): torch.tensor(float(value))
        for name, value in content.items()
        if str(name).endswith(".alpha") and isinstance(value, int | float)
    }
    return found | alphas


def _unwrapped(content: Any) -> Any:
    """What is inside the entries of a pickle that tools put around the tensors."""
    while isinstance(content, Mapping):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _flat(file: Path, content: Any, network: str = "") -> Tensors:
    """The tensors of a file without what tools put around them, and around their names.

    `network` is the prefix that the names may have too, where it is known.
    """
    content = _unwrapped(content)
    tensors = _tensors(content) if isinstance(content, Mapping) else {}
    if not tensors:
        if isinstance(content, Mapping) and content and all(isinstance(value, Mapping) for value in content.values()):
            names = {str(name) for name in content}
            if any(name.startswith(("down_blocks.", "up_blocks.", "mid_block")) for name in names):
                raise ValueError(NO_WEIGHTS.format(file, "a set of adapters (of Receler, for example)"))
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise TensorMismatch(f"{file} contains no tensors by name, but {found or 'nothing'}")
    prefixes = [*AROUND, *([network] if network else [])]
    while prefix := next((one for one in prefixes if all(name.startswith(one) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
