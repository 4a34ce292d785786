"""Train an unlearned model further on ordinary data, to see what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from bench.core.config import Protocol
from bench.core.task import Finetune
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import require_finite_weights
from bench.training.method import Method, MethodConfig

SETTINGS = ("finetune_steps", "finetune_batch", "finetune_pictures")  # fields of Protocol, for every `Finetune.how`
RATES = {"full": ("finetune_lr",), "lora": ("lora_lr", "lora_rank")}  # `Finetune.how` -> further fields of Protocol


def settings(protocol: Protocol, finetune: Finetune) -> dict[str, Any]:
    """The fields of the protocol that affect this kind of fine-tuning, by name."""
    return {name: getattr(protocol, name) for name in (*SETTINGS, *RATES[finetune.how])}


class Denoising(Method):
    """L = || eps_theta(z_t, c) - eps ||^2, t uniform (Ho et al., 2020, equation 14): ordinary diffusion training."""

    about = "fine-tuning on the denoising loss"
    source = "Ho et al., NeurIPS 2020, arXiv 2006.11239"
    fidelity = "control"

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The denoising loss on one batch of images with their captions."""
        z, noise, t = harness.noised(batch.latents)
        return F.mse_loss(harness.student(z, t, batch.prompt_embeds), noise)


def further(
    harness: Harness, finetune: Finetune, protocol: Protocol, seed: int
) -> tuple[dict[str, torch.Tensor], Mapping[str, float | int]]:
    """Fine-tune the weights that the harness starts from, on the harness's forget set.

    Args:
        finetune: `how` is "full" for all weights, with `protocol.finetune_lr`, or "lora" for low-rank adapters, with
            `protocol.lora_lr`. Adapters are merged into the weights afterwards.
        seed: seed of the adapters' initial values.

    Returns the tensors of the U-Net that differ from the backbone's, and the counts of the cost meter. Raises
    NonFiniteLoss.
    """
    full = finetune.how == "full"
    method = Denoising(
        MethodConfig(
            lr=protocol.finetune_lr if full else protocol.lora_lr,
            epochs=None,
            steps=protocol.finetune_steps,
            batch_size=protocol.finetune_batch,
            parameters="unet",
        )
    )
    with harness.trainable(method.trains) if full else harness.trainable_adapters(protocol.lora_rank, seed):
        harness.meter.start()
        method.edit(harness)
        harness.meter.stop()
        tensors = harness.changed_tensors()
    require_finite_weights(tensors, "training further")
    return tensors, harness.meter.counts()
