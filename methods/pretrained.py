"""Control: the unchanged model. It forgets least and retains most."""

from __future__ import annotations

from methods.base import Harness, Method


class Pretrained(Method):
    """Changes nothing. Every other row of a board is read against this one."""

    about = "control: nothing is removed"
    source = "the backbone itself"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """False: no parameter of the U-Net trains."""
        return False

    def edit(self, harness: Harness) -> None:
        """Leave the weights as they are."""
