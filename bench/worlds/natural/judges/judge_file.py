"""Judge files: a trained judge in one file, with the whole network, its labels and its test accuracy.

Loading a judge needs only this file and timm.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.backbones.checks import tensor_check
from bench.core import digest
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.preprocessing import Preprocessed

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "e570876c7313ac8d9e4a5180c308692e3b05d6c42de3d353bb07c847d47aec49"

SUFFIX = ".safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """The metadata of a judge file.

    Args:
        domain: the domain of the judge.
        labels: the judge's classes, in the order of its logits.
        backbone: the name of the pretrained network.
        architecture, options: timm's arguments that build the network.
        preprocessing: timm's data config, see `preprocessing.KEYS`.
        training: how the judge was trained from the backbone: settings, seed, digest of the pretrained weights.
        right: the number of test images that the judge classified correctly.
        tested: the number of test images.
        versions: library -> its version when the judge was trained.
    """

    domain: str
    labels: tuple[str, ...]
    backbone: str
    architecture: str
    options: dict[str, Any]
    preprocessing: dict[str, Any]
    training: dict[str, Any]
    right: int
    tested: int
    versions: dict[str, str]


class Trained(nn.Module):
    """A judge's network: a timm network without its last layer, followed by a linear layer for the judge's labels.

    It maps float images in [0, 1], (B, 3, H, W), to logits, (B, labels).
    """

    def __init__(self, body: Preprocessed, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures))


def save(file: Path, module: Trained, record: Record) -> None:
    """Write the judge to `file` atomically, and replace an existing `file`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(record)}, allow_nan=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    work = file.with_suffix(f".{os.getpid()}.new")
    save_file(tensors, work, {"judge": text, "digest": _digest(tensors, text)})
    os.replace(work, file)


def read(file: Path) -> Record:
    """The metadata of `file`; the tensors are not read. Raises WorldUnavailable for a missing or damaged file."""
    return _read(file)[0]


def load(file: Path, domain: str, labels: tuple[str, ...], device: torch.device) -> Judge:
    """Load the judge in `file`, in eval mode, frozen, on `device`.

    Raises WorldUnavailable for a missing or damaged file, and for a judge of another domain or with other `labels` (the
    order matters).
    """
    import timm

    record, tensors = _read(file, whole=True)
    if (record.domain, record.labels) != (domain, labels):
        raise WorldUnavailable(f"{file} {_difference(record, domain, labels)}")
    try:
        net = timm.create_model(record.architecture, pretrained=False, num_classes=0, **record.options)
        head = nn.Linear(tensors["head.weight"].shape[1], len(labels))
        module = Trained(Preprocessed(record.preprocessing, net), head)
        tensor_check.compare(str(file), record.architecture, tensors, module.state_dict())
        tensor_check.require_finite(str(file), tensors.items())
        module.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, tensor_check.TensorMismatch) as error:
        raise WorldUnavailable(
            f"{file} doesn't hold the weights of timm's {record.architecture!r} as version {timm.__version__} builds "
            f"it (it was written with {record.versions.get('timm')}): {error}"
        ) from error
    return Judge(labels, module.eval().requires_grad_(False).to(device), head)


def _read(file: Path, whole: bool = False) -> tuple[Record, dict[str, Tensor]]:
    """The record and, if `whole`, the tensors. Without `whole` the dictionary of tensors is empty.

    Raises WorldUnavailable for a missing or damaged file. If `whole`, this includes a file whose tensors no longer have
    the digest that `save` wrote.
    """
    if not file.is_file():
        raise WorldUnavailable(f"there is no judge file {file}")
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()} if whole else {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WorldUnavailable(f"{file} is damaged: {error}") from error
    if "judge" not in metadata:
        raise WorldUnavailable(
            f"{file} is no judge file: its metadata lacks 'judge', "
            "as `python -m bench.worlds.natural.judges.train` writes it"
        )
    if whole and metadata.get("digest") != _digest(tensors, metadata["judge"]):
        raise WorldUnavailable(f"{file} is damaged: it does not have the digest it was written with")
    fields = json.loads(metadata["judge"])
    if fields.pop("format", None) != FORMAT:
        raise WorldUnavailable(f"{file} has another format than {FORMAT}, which this version of Lethe reads")
    return Record(**{**fields, "labels": tuple(fields["labels"])}), tensors


def _difference(record: Record, domain: str, labels: tuple[str, ...]) -> str:
    if record.domain != domain:
        return f"is a judge of {record.domain}, not of {domain}"
    pairs = zip(record.labels, labels, strict=False)
    first = next((f"{theirs!r} where {ours!r} stands here" for theirs, ours in pairs if theirs != ours), "none differs")
    return f"has {len(record.labels)} labels of {domain}, here are {len(labels)}; the first that differs: {first}"


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    return digest.of_json([digest.of_tensors(tensors), text])
