"""Control: the untouched model. The floor of forgetting and the ceiling of retention."""

from __future__ import annotations

from bench.training.harness import Harness
from methods.base import Method


class Pretrained(Method):
    """Changes nothing; every other row is read against this one."""

    about = "control: nothing is removed"
    source = "the backbone itself"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """Nothing."""
        return False

    def edit(self, harness: Harness) -> None:
        """Leave the weights as they are."""
