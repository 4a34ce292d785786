"""What a method used to get where it got: the cost meter and the ledger of data."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

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

    @property
    def compensation(self) -> str:
        """What kinds of help the method had beyond the forget set; "none" for compensation-free methods."""
        used = {"retain images": self.retain_images, "anchor prompts": self.anchor_prompts}
        return " + ".join(what for what, seen in used.items() if seen) or "none"
