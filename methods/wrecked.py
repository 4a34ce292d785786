"""Control: a ruined model. It forgets everything, so a board that ranks it high measures the wrong thing."""

from __future__ import annotations

import torch

from methods.base import Harness, Method


class Wrecked(Method):
    """Zeroes the U-Net's output layer, so that it predicts no noise and every sample is noise."""

    about = "control: everything is removed; forgetting is complete and retention at chance"
    source = "the backbone with a zeroed output layer"
    fidelity = "control"

    def trains(self, parameter: str) -> bool:
        """True for the parameters of the output layer."""
        return parameter.startswith("conv_out.")

    def edit(self, harness: Harness) -> None:
        """Set the output layer to zero."""
        with torch.no_grad():
            for parameter in harness.trained.values():
                parameter.zero_()
