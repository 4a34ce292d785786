"""Control: a model retrained from nothing without the concept. Nothing forgets better, and nothing is as dear."""

from __future__ import annotations

from bench.training.harness import Harness
from methods.base import Method


class Oracle(Method):
    """Trains nothing here: a world has its weights in a file, the text encoder's among them, or has none."""

    about = "control: retrained without the concept: what a method could at best attain"
    source = "the backbone's own recipe, on all its pictures but those of the concept"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """Nothing: all of the U-Net is another one's."""
        return False

    def edit(self, harness: Harness) -> None:
        """Raises RuntimeError: weights that are not given can't be made in an unlearning's time."""
        raise RuntimeError(
            f"the oracle of {', '.join(harness.task.forget)} is not trained by the harness: its weights come from a "
            "file of the world, and none was given; docs/pocket.md says how to build it"
        )
