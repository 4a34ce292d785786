"""What a method spends, and which data it uses."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch


@dataclass
class CostMeter:
    """Counts the cost of a method while the method works.

    Attributes:
        seconds: wall time between each `start` and the next `stop`, summed.
        steps: optimiser steps.
        student_forwards, teacher_forwards: calls of the U-Net, whatever the batch size.
        peak_bytes: on CUDA the peak of the allocated memory, elsewhere the largest resident set size of the process
            that `record_memory` saw.

    Example:
        >>> meter = CostMeter(torch.device("cpu"))
        >>> meter.start()
        >>> meter.steps += 1
        >>> meter.stop()
        >>> meter.counts()["steps"], meter.counts()["seconds"] > 0
        (1, True)
    """

    device: torch.device
    seconds: float = 0.0
    steps: int = 0
    student_forwards: int = 0
    teacher_forwards: int = 0
    peak_bytes: int = 0
    _began: float = 0.0

    def start(self) -> None:
        """Start the clock, or start it again after `stop`."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._began = time.perf_counter()

    def record_memory(self) -> None:
        """Raise `peak_bytes` to the memory in use now, if that is more."""
        used = (
            torch.cuda.max_memory_allocated(self.device)
            if self.device.type == "cuda"
            else psutil.Process().memory_info().rss
        )
        self.peak_bytes = max(self.peak_bytes, used)

    def stop(self) -> None:
        """Stop the clock. The method is not charged for what happens until the next `start`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.record_memory()
        self.seconds += time.perf_counter() - self._began

    def counts(self) -> dict[str, float | int]:
        """The public attributes by name."""
        return {
            "seconds": self.seconds,
            "steps": self.steps,
            "student_forwards": self.student_forwards,
            "teacher_forwards": self.teacher_forwards,
            "peak_bytes": self.peak_bytes,
        }

    def restore(self, counts: Mapping[str, Any]) -> None:
        """Replace the counts by the `counts` of an interrupted process. Call it while the clock is stopped.

        `peak_bytes` becomes the larger of the two values.
        """
        for name, value in counts.items():
            setattr(self, name, max(value, self.peak_bytes) if name == "peak_bytes" else value)


@dataclass
class DataUse:
    """The data that a method used. Each example counts once, however often the method used it.

    Attributes:
        forget_images: indices into the forget set.
        retain_images: indices into the retain set.
        anchor_prompts: prompts of other concepts, or of the superclass, that the method asked for.

    Example:
        >>> use = DataUse()
        >>> use.compensation
        'none'
        >>> use.retain_images.update([0, 1, 1])
        >>> use.counts()["retain_images"], use.compensation
        (2, 'retain images')
    """

    forget_images: set[int] = field(default_factory=set)
    retain_images: set[int] = field(default_factory=set)
    anchor_prompts: set[str] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """The size of each set by name."""
        return {
            "forget_images": len(self.forget_images),
            "retain_images": len(self.retain_images),
            "anchor_prompts": len(self.anchor_prompts),
        }

    def state(self) -> dict[str, list[Any]]:
        """The sets as sorted lists, for a checkpoint."""
        return {name: sorted(members) for name, members in vars(self).items()}

    def restore(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Add the `state` of an interrupted process."""
        for name, members in state.items():
            getattr(self, name).update(members)

    @property
    def compensation(self) -> str:
        """The kinds of data that the method used beyond the forget set, joined by " + "; "none" if it used no other."""
        kinds = {"retain images": self.retain_images, "anchor prompts": self.anchor_prompts}
        return " + ".join(kind for kind, members in kinds.items() if members) or "none"
