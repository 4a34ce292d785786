"""Compares the weight files of a pipeline folder with the networks that its configuration describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.backbones import folder as pipeline_folder
from bench.backbones.checks import tensor_check
from bench.backbones.checks.tensor_check import Header, TensorMismatch

NAMES = {"unet": "U-Net", "vae": "VAE", "text_encoder": "text encoder"}
WRAPPER = "text_model."  # prefix of the text encoder's tensors in files that other versions of transformers wrote
# tensors that older versions saved, or that other models compute with; the text encoder's output doesn't depend on them
HARMLESS = {"text_encoder": ("embeddings.position_ids", "text_projection.weight", "logit_scale")}
ADAPTERS = ("adapter_config.json", "adapter_model.*", "pytorch_lora_weights.*", "learned_embeds.*")

_sound: set[str] = set()  # digests of folders that this process has checked


def require_sound(folder: Path) -> None:
    """Raise TensorMismatch unless every network of a folder can be loaded from its files exactly as they are.

    The names and shapes of all networks are compared first, then the values are read. A process checks a folder once.

    Raises ValueError for a configuration that describes no network and for an adapter beside the model. Raises
    FileNotFoundError if a file is missing.
    """
    require_no_adapters(folder)
    content = pipeline_folder.content(folder)
    if content in _sound:
        return
    for part in NAMES:
        network = empty_network(folder, part)
        first, *shards = pipeline_folder.weights(folder, part)
        found, where = header(folder, part), str(first)
        if part == "text_encoder" or not shards:  # diffusers renames nothing in weights that are in several files
            found = renamed(part, found, network)
        tensor_check.compare(where, NAMES[part], found, network.state_dict(), HARMLESS.get(part, ()))
    for part in NAMES:
        for file in _tensor_files(folder, part):
            tensor_check.require_finite(str(file), tensor_check.load(file).items())
    _sound.add(content)


def header(folder: Path, part: str) -> Header:
    """Shapes and dtypes of the tensors of one network, by their names in the files.

    Raises TensorMismatch for a damaged file, for a file whose tensors are not on its top level, where libraries look
    for them, and for an index that does not fit its files.
    """
    index, *_ = pipeline_folder.weights(folder, part)
    for file in _tensor_files(folder, part):  # libraries read the files of a folder by their names
        if tensor_check.is_safetensors(file) != tensor_check.is_named_safetensors(file):
            raise TensorMismatch(f"{file} is damaged, or its name does not say what it is")
        tensor_check.require_flat(file)
    if index.suffix != ".json":
        return tensor_check.header(index)
    places: dict[str, str] = pipeline_folder.weight_map(index)
    found: Header = {}
    for shard in _tensor_files(folder, part):
        for name, tensor in tensor_check.header(shard).items():
            if name in found or places.get(name) != shard.name:
                told = f"has it in {places[name]}" if name in places else "does not name it"
                raise TensorMismatch(f"{shard} contains the tensor {name}, but {index.name} {told}")
            found[name] = tensor
    if absent := [name for name in places if name not in found]:
        first = f"{absent[0]} in {places[absent[0]]}"
        raise TensorMismatch(f"{index} names {len(absent)} tensors that are not in its files: {first}, ...")
    return found


def tensors_of(folder: Path, part: str) -> Header:
    """Shapes and dtypes of a network's tensors, by their names in the network. The folder must be sound.

    The VAE's tensors have the names in its file.
    """
    bare = {n.removeprefix(WRAPPER) if part == "text_encoder" else n: t for n, t in header(folder, part).items()}
    return {name: tensor for name, tensor in bare.items() if name not in HARMLESS.get(part, ())}


def empty_network(folder: Path, part: str) -> Any:
    """The network that a folder's configuration describes, on the device "meta", where tensors have no values.

    The network is shared by all callers, who must not change it. Raises ValueError for a configuration that describes
    no network.
    """
    config = pipeline_folder.config(folder, part)
    try:
        return _network(part, json.dumps(config))
    except Exception as error:  # the constructors raise many types
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder / part / 'config.json'} describes no {NAMES[part]}: {said}") from error


@cache
def _network(part: str, config: str) -> Any:
    import diffusers  # these imports take seconds, and commands that only list names do not need them
    import transformers

    settings = json.loads(config)
    with torch.device("meta"):
        if part == "text_encoder":
            return transformers.CLIPTextModel(transformers.CLIPTextConfig(**settings))
        cls = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}[part]
        return cls.from_config(settings)


def renamed(part: str, found: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """The tensors of a file by their present names in the network.

    diffusers renamed the layers of the VAE's attention, and transformers dropped a prefix of the text encoder.
    """
    if part == "text_encoder":
        expected = network.state_dict()
        return {name if name in expected else name.removeprefix(WRAPPER): tensor for name, tensor in found.items()}
    return dict(network._fix_state_dict_keys_on_load(dict(found)))


def quieten() -> None:
    """Hide the progress bars of diffusers and transformers, which would overwrite the one of the run."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def require_no_adapters(folder: Path) -> None:
    """Raise ValueError if a folder contains adapters, which diffusers ignores and transformers loads unasked."""
    found = [path for within in ("", *NAMES) for name in ADAPTERS for path in (folder / within).glob(name)]
    if found:
        raise ValueError(
            f"{folder} contains the adapter {found[0].relative_to(folder)} beside the model; methods work on one set "
            "of weights: merge the adapter into the weights and save the model again, or remove the adapter"
        )


def _tensor_files(folder: Path, part: str) -> list[Path]:
    return [file for file in pipeline_folder.weights(folder, part) if file.suffix != ".json"]
