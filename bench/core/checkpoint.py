"""Half a training on disk, so that one that was killed goes on from there."""

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

log = logging.getLogger(__name__)

QUICK = 3.0  # seconds that writing may take at the usual interval


@dataclass
class Checkpoint:
    """One file that is written over and over, each time in one step: a killed run leaves the last whole one.

    Args:
        path: of the file.
        every: seconds between two writes, at least; more where writing takes longer than QUICK, in proportion, so that
            at 60 seconds no more than a twentieth of the time goes into it. 0 writes at every opportunity.
    """

    path: Path
    every: float = 60.0
    _took: float = 0.0
    _last: float = field(default_factory=lambda: monotonic())

    def due(self) -> bool:
        """Whether it is time to write again."""
        return monotonic() - self._last >= self.every * max(1.0, self._took / QUICK)

    def save(self, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
        """Replace what the file holds by `tensors`, of any device and layout, and `record`, of JSON's own types.

        A disk that takes no more is reported, and training goes on without.
        """
        began = monotonic()
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(record, allow_nan=False)
        metadata = {"record": text, "digest": _digest(held, text)}
        work = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(held, work, metadata)
            os.replace(work, self.path)
        except (OSError, SafetensorError) as error:
            log.warning("no checkpoint written to %s: %s", self.path, error)
            work.unlink(missing_ok=True)
        self._last = monotonic()
        self._took = self._last - began

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was saved, tensors on the CPU; None where nothing was. A damaged file is reported and removed."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as stored:
                metadata = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if metadata.get("digest") != _digest(tensors, metadata.get("record", "")):
                raise ValueError("it does not have the digest that was written")
            return tensors, json.loads(metadata["record"])
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("damaged checkpoint %s (%s): removed, training starts anew", self.path, error)
            self.remove()
            return None

    def remove(self) -> None:
        """Forget what was saved, if anything was."""
        for path in (self.path, self.path.with_suffix(".new")):
            path.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    return digest.of_json([digest.of_tensors(tensors), text])
