"""The state of an unfinished training on disk, so that a training that was killed can continue from it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench.core import digest
from bench.core.store import leftovers

log = logging.getLogger(__name__)

NAME = "name"  # of the file, in its metadata: a checkpoint of another training must not be continued
MAX_WRITE_SECONDS = 3.0  # a write that takes longer makes the interval between writes longer


@dataclass
class Checkpoint:
    """A file that each `save` replaces in one step, so that a killed run always leaves a complete file.

    Args:
        path: path of the file.
        every: minimum number of seconds between two writes; 0 writes at every opportunity. If a write takes longer
            than MAX_WRITE_SECONDS, the interval grows in proportion. With 60 seconds, writing takes at most a
            twentieth of the time.
    """

    path: Path
    every: float = 60.0
    _took: float = 0.0
    _last: float = field(default_factory=lambda: monotonic())

    def due(self) -> bool:
        """Whether it is time to write again."""
        return monotonic() - self._last >= self.every * max(1.0, self._took / MAX_WRITE_SECONDS)

    def save(self, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
        """Replace the content of the file by `tensors` and `record`.

        If the file can't be written, for example because the disk is full, a warning is logged and training continues.

        Args:
            tensors: tensors by name, on any device, of any shape, dtype and memory layout.
            record: other state, in types that JSON has.
        """
        began = monotonic()
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(record, allow_nan=False)
        metadata = {"record": text, "digest": _digest(held, text), NAME: self.path.name}
        work: Path | None = None
        try:
            work = leftovers.temporary(self.path.parent)
            save_file(held, work, metadata)
            os.replace(work, self.path)
        except (OSError, SafetensorError) as error:
            log.warning("the checkpoint %s could not be written: %s", self.path, error)
            if work is not None:
                leftovers.delete(work)
        self._last = monotonic()
        self._took = self._last - began

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The saved tensors, on the CPU, and the saved record; None if there is no file.

        A damaged file is removed, and a warning is logged.
        """
        if leftovers.identity_of(self.path) is None:
            return None
        try:
            with safe_open(self.path, framework="pt") as stored:
                metadata = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if metadata.get("digest") != _digest(tensors, metadata.get("record", "")):
                raise ValueError("its content does not match its digest")
            if metadata.get(NAME, self.path.name) != self.path.name:
                raise ValueError(f"it is that of {metadata[NAME]}")
            return tensors, json.loads(metadata["record"])
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("removed the damaged checkpoint %s (%s); training starts from the beginning", self.path, error)
            if not self.remove():
                log.warning("the checkpoint %s can't be removed", self.path)
            return None

    def remove(self) -> bool:
        """Remove the file, if it exists. Returns whether it is gone."""
        return leftovers.remove(self.path)


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    return digest.of_json([digest.of_tensors(tensors), text])
