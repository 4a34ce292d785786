"""Training an unlearned model further, as somebody would who has nothing to do with the unlearning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from bench.core.config import Protocol
from bench.core.task import Finetune
from bench.training.harness import Batch, Harness
from bench.training.loop import NonFiniteLoss, TrainConfig, fit

SETTINGS = ("finetune_steps", "finetune_batch", "finetune_pictures")  # of a protocol, whichever weights move
RATES = {"full": ("finetune_lr",), "lora": ("lora_lr", "lora_rank")}  # and what else, by `Finetune.how`


def settings(protocol: Protocol, finetune: Finetune) -> dict[str, Any]:
    """What of the protocol decides how the model is trained further."""
    return {name: getattr(protocol, name) for name in (*SETTINGS, *RATES[finetune.how])}


class Denoising:
    """L = || eps_theta(z_t, c) - eps ||^2, t uniform: how such models are trained and fine-tuned (Ho et al., 2020)."""

    resumable: ClassVar[bool] = True

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss on one batch of pictures with their captions."""
        latents, noise, timesteps = harness.noised(batch.latents)
        return F.mse_loss(harness.student(latents, timesteps, batch.prompt_embeds), noise)

    def trains(self, parameter: str) -> bool:
        """Every weight of the U-Net, where no adapters stand for it."""
        return True

    def prepare(self, harness: Harness) -> None:
        """Nothing to prepare."""

    def after_backward(self, harness: Harness) -> None:
        """Gradients stay as they are."""

    def after_step(self, harness: Harness) -> None:
        """Nothing follows a step."""

    def finish(self, harness: Harness) -> None:
        """Nothing follows the training."""

    def edit(self, harness: Harness) -> None:
        """Train."""
        fit(harness, self)


def further(
    harness: Harness, finetune: Finetune, protocol: Protocol, seed: int
) -> tuple[dict[str, torch.Tensor], Mapping[str, float | int]]:
    """Train the harness's weights on its examples; returns the U-Net's changed tensors and what it cost.

    In full with Adam at `finetune_lr`, or through low-rank adapters at `lora_lr`, whose product is counted into the
    weights that they sit on. Raises NonFiniteLoss.
    """
    full = finetune.how == "full"
    rate = protocol.finetune_lr if full else protocol.lora_lr
    config = TrainConfig(lr=rate, epochs=None, steps=protocol.finetune_steps, batch_size=protocol.finetune_batch)
    training = Denoising(config)
    with harness.trainable(training.trains) if full else harness.adaptable(protocol.lora_rank, seed):
        harness.meter.start()
        training.edit(harness)
        harness.meter.stop()
        tensors = harness.changed()
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise NonFiniteLoss("training further left NaN or infinite weights")
    return tensors, harness.meter.facts()
