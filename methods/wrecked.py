"""Control: a ruined model. It forgets everything, so a board on which it looks good measures the wrong thing."""

from __future__ import annotations

import torch

from bench.training.harness import Harness
from methods.base import Method


class Wrecked(Method):
    """Zeroes the U-Net's output layer: it predicts no noise, and samples are noise whatever the prompt."""

    about = "control: everything is removed; forgetting is complete and retention at chance"
    source = "the backbone with a zeroed output layer"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """The last convolution alone."""
        return parameter.startswith("conv_out.")

    def edit(self, harness: Harness) -> None:
        """Zero it."""
        with torch.no_grad():
            for parameter in harness.trained.values():
                parameter.zero_()
