"""The training loop, the same for every method that trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.harness import Batch, Harness

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class TrainConfig:
    """What the harness reads from every method's config; methods inherit it and change the defaults."""

    lr: float = 1e-5
    epochs: int | None = 30  # passes over the forget set; none where `steps` are given
    steps: int | None = None  # optimiser steps in all; none where `epochs` are given
    batch_size: int = 8
    grad_accumulation: int = 1
    optimizer: str = "adam"  # one of OPTIMIZERS
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    ema_decay: float | None = None  # the result is then the moving average

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training takes either epochs or steps: give one and set the other to none")
        length = self.epochs if self.steps is None else self.steps
        if min(length or 0, self.batch_size, self.grad_accumulation) < 1 or self.lr < 0:
            raise ValueError("epochs, steps, batch_size and grad_accumulation must be at least 1, lr at least 0")


class NonFiniteLoss(ArithmeticError):
    """Training diverged."""


class Unlearner(Protocol):
    """What the machine asks of a method; `methods.base.Method` answers most of it."""

    config: Any

    def trains(self, parameter: str) -> bool: ...
    def prepare(self, harness: Harness) -> None: ...
    def edit(self, harness: Harness) -> None: ...
    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor: ...
    def after_backward(self, harness: Harness) -> None: ...
    def after_step(self, harness: Harness) -> None: ...
    def finish(self, harness: Harness) -> None: ...


def fit(harness: Harness, method: Unlearner) -> None:
    """Passes over the forget set under `method.loss`, `config.epochs` or `config.steps` long.

    A pass that ends with fewer batches than `grad_accumulation` steps with those it has. Raises NonFiniteLoss, and
    ValueError if the method trains no parameter of this backbone.
    """
    config: TrainConfig = method.config
    parameters = list(harness.trained.values())
    if not parameters:
        raise ValueError("no parameter of this backbone is trained by the method")
    optimizer = OPTIMIZERS[config.optimizer](
        parameters, lr=config.lr, weight_decay=config.weight_decay, fused=harness.device.type == "cuda"
    )
    average = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay is not None else None
    harness.averaged = {n: p.detach().clone() for n, p in harness.trained.items()} if average else {}
    batches = math.ceil(harness.forget_count / config.batch_size)
    steps = config.steps or (config.epochs or 0) * math.ceil(batches / config.grad_accumulation)
    done = 0
    while done < steps:
        for i, batch in enumerate(harness.forget_batches(config.batch_size), start=1):
            loss = method.loss(harness, batch)
            if not torch.isfinite(loss):
                raise NonFiniteLoss(f"loss is {loss.item()} at step {done + 1} of {steps}")
            first = (i - 1) // config.grad_accumulation * config.grad_accumulation
            (loss / min(config.grad_accumulation, batches - first)).backward()  # the last step may have fewer
            if i % config.grad_accumulation and i != batches:
                continue
            method.after_backward(harness)
            if config.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            harness.meter.steps, done = harness.meter.steps + 1, done + 1
            if average:
                average(list(harness.averaged.values()), parameters, done)
            harness.meter.look()
            method.after_step(harness)
            harness.on_step(done, steps, loss.item())
            if done == steps:
                break
    with torch.no_grad():
        for name, mean in harness.averaged.items():
            harness.trained[name].copy_(mean)
