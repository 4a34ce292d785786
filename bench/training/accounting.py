"""What a method used to get where it got: the cost meter and the ledger of data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch


@dataclass
class Meter:
    """Counts while a method works.

    `seconds` is the wall time between `start` and `stop`, summed; forwards are calls of the U-Net; `peak_bytes` is
    CUDA's peak allocation, or on the CPU the largest resident set of the process that was seen at a step.
    """

    device: torch.device
    seconds: float = 0.0
    steps: int = 0
    student_forwards: int = 0
    teacher_forwards: int = 0
    peak_bytes: int = 0
    _began: float = 0.0

    def start(self) -> None:
        """Begin, or go on after a `stop`."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._began = time.perf_counter()

    def look(self) -> None:
        """Note the memory in use now."""
        used = (
            torch.cuda.max_memory_allocated(self.device)
            if self.device.type == "cuda"
            else psutil.Process().memory_info().rss
        )
        self.peak_bytes = max(self.peak_bytes, used)

    def stop(self) -> None:
        """Pause or end; what happens until the next `start` is not the method's cost."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.look()
        self.seconds += time.perf_counter() - self._began

    def facts(self) -> dict[str, float | int]:
        """The counts as a plain record."""
        return {
            "seconds": self.seconds,
            "steps": self.steps,
            "student_forwards": self.student_forwards,
            "teacher_forwards": self.teacher_forwards,
            "peak_bytes": self.peak_bytes,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on from the `facts` of another process, in place of what was counted here so far; call it while paused."""
        for name, value in facts.items():
            setattr(self, name, max(value, self.peak_bytes) if name == "peak_bytes" else value)


@dataclass
class Ledger:
    """The data a method looked at, as sets: looking twice costs nothing."""

    forget_images: set[int] = field(default_factory=set)
    retain_images: set[int] = field(default_factory=set)
    anchor_prompts: set[str] = field(default_factory=set)

    def facts(self) -> dict[str, int]:
        """Sizes of the sets."""
        return {
            "forget_images": len(self.forget_images),
            "retain_images": len(self.retain_images),
            "anchor_prompts": len(self.anchor_prompts),
        }

    def seen(self) -> dict[str, list[Any]]:
        """The sets themselves as a plain record."""
        return {name: sorted(seen) for name, seen in vars(self).items()}

    def restore(self, seen: Mapping[str, Sequence[Any]]) -> None:
        """Go on from what another process had `seen`."""
        for name, values in seen.items():
            getattr(self, name).update(values)

    @property
    def compensation(self) -> str:
        """What kinds of help the method had beyond the forget set; "none" for compensation-free methods."""
        used = {"retain images": self.retain_images, "anchor prompts": self.anchor_prompts}
        return " + ".join(what for what, seen in used.items() if seen) or "none"
