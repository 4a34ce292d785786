"""A trained judge in one file: the whole network, what its logits mean, and how well it did. Nothing else is needed."""

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

from bench.core import digest
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.preprocessing import Preprocessed

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "e570876c7313ac8d9e4a5180c308692e3b05d6c42de3d353bb07c847d47aec49"

SUFFIX = ".safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """What a judge file says about its network.

    Args:
        domain, labels: what it tells apart.
        backbone, architecture, options: name and timm's arguments of the network.
        preprocessing: timm's data config.
        training: how the judge was made of the backbone: settings, seed, digest of the pretrained weights.
        right, tested: of how many test pictures it named how many rightly.
        versions: of the libraries it was made with.
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
    """Float pictures in [0, 1] to logits: a network of timm without its last layer, and one of the judge's own."""

    def __init__(self, body: Preprocessed, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures))


def save(file: Path, module: Trained, record: Record) -> None:
    """Write `file` in one step; the same file may be replaced."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(record)}, allow_nan=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    work = file.with_suffix(f".{os.getpid()}.new")
    save_file(tensors, work, {"judge": text, "digest": _digest(tensors, text)})
    os.replace(work, file)


def read(file: Path) -> Record:
    """What `file` says about its network, whose tensors are not read. Raises WorldUnavailable."""
    return _read(file)[0]


def load(file: Path, domain: str, labels: tuple[str, ...], device: torch.device) -> Judge:
    """The judge in `file`, which must be one of `domain` with `labels`, in this order.

    Raises WorldUnavailable for a missing or damaged file, or a judge of something else.
    """
    import timm

    record, tensors = _read(file, whole=True)
    if (record.domain, record.labels) != (domain, labels):
        raise WorldUnavailable(f"{file} {_difference(record, domain, labels)}")
    try:
        net = timm.create_model(record.architecture, pretrained=False, num_classes=0, **record.options)
        head = nn.Linear(tensors["head.weight"].shape[1], len(labels))
        module = Trained(Preprocessed(record.preprocessing, net), head)
        module.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError) as error:
        raise WorldUnavailable(
            f"{file} doesn't hold the weights of timm's {record.architecture!r} as version {timm.__version__} builds "
            f"it (it was written with {record.versions.get('timm')}): {error}"
        ) from error
    return Judge(labels, module.eval().requires_grad_(False).to(device), head)


def _read(file: Path, whole: bool = False) -> tuple[Record, dict[str, Tensor]]:
    """The record and, if `whole`, the tensors, which must have the digest they were written with."""
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
