"""The settings of a process at one moment, to compare with and to put back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from bench.training.guard.process_switches import PROCESS
from bench.training.guard.switch import Switch
from bench.training.guard.torch_switches import TORCH

SWITCHES = (*TORCH, *PROCESS)


class Settings:
    """The values of some switches at one moment."""

    def __init__(self, switches: Sequence[Switch] = SWITCHES) -> None:
        self.switches = switches
        self.values = [switch.get() for switch in switches]
        self.modules = dict(sys.modules)

    def restore(self) -> list[tuple[Switch, Any, Any]]:
        """Set every setting back. Returns those that differed, each with its value of then and of now."""
        changed = []
        for switch, then in zip(self.switches, self.values, strict=True):
            if (now := switch.get()) != then:
                switch.put(then)  # before the next one is read: a mode of torch changes what reading returns
                changed.append((switch, then, now))
        return changed

    def imported(self) -> bool:
        """Whether a module was imported since then."""
        return not sys.modules.keys() <= self.modules.keys()
