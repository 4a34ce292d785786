"""Control: a model trained from scratch without the concept. It forgets best, and it costs most."""

from __future__ import annotations

from methods.base import Harness, Method


class Oracle(Method):
    """Trains nothing here: its weights, those of the text encoder included, come from a file of the world."""

    about = "control: retrained without the concept: what a method could at best attain"
    source = "the backbone's own recipe, on all its pictures but those of the concept"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """False: no parameter of the U-Net trains."""
        return False

    def edit(self, harness: Harness) -> None:
        """Raises RuntimeError: an oracle takes a whole training from scratch, so it must be given as a file."""
        raise RuntimeError(
            f"the oracle of {', '.join(harness.task.forget)} is not trained by the harness: its weights come from a "
            "file of the world, and none was given; docs/pocket.md says how to build it"
        )
