"""A small method to train with, and what makes a harness for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from bench.training.forget_set import Batch
from bench.training.harness import Harness
from methods.base import Method, MethodConfig

Make = Callable[..., Harness]  # the fixture `make`


class Towards(Method):
    """Pulls the student towards the teacher's null prediction, on fixed noise, so that runs can be compared."""

    about = source = "a test"
    fidelity = "control"

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        timesteps = torch.full((len(batch),), 500, device=harness.device)
        target = harness.teacher(batch.latents, timesteps, harness.null_embeds(len(batch)))
        return F.mse_loss(harness.student(batch.latents, timesteps, batch.prompt_embeds), target)


def method(**settings: object) -> Towards:
    return Towards(MethodConfig(**{"lr": 1e-3, "epochs": 2, "batch_size": 4, **settings}))  # type: ignore[arg-type]
