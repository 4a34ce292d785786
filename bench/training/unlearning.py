"""From a harness and a method to the changed tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.training.accounting import Ledger
from bench.training.harness import Harness
from bench.training.loop import NonFiniteLoss, Unlearner


@dataclass(frozen=True)
class Outcome:
    """What a method leaves: the U-Net's changed tensors, what it cost, what it used."""

    delta: dict[str, torch.Tensor]
    cost: dict[str, float | int]
    ledger: Ledger


def unlearn(harness: Harness, method: Unlearner) -> Outcome:
    """Let `method` work once; the U-Net is back at its own weights when this returns or raises.

    Raises NonFiniteLoss, and whatever the method raises.
    """
    with harness.trainable(method.trains):
        harness.meter.start()
        method.prepare(harness)
        method.edit(harness)
        method.finish(harness)
        harness.meter.stop()
        delta = harness.changed()
    if not all(torch.isfinite(t).all() for t in delta.values()):
        raise NonFiniteLoss("the method left NaN or infinite weights")
    facts = {**harness.meter.facts(), "delta_bytes": sum(t.numel() * t.element_size() for t in delta.values())}
    return Outcome(delta, facts, harness.ledger)
