"""The training loop, the same for every method that trains, and how it goes on after an interruption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.core.overrides import require_finite
from bench.training import optimizers, regularisers
from bench.training.harness import Batch, Harness
from bench.training.student_teacher import require_teacher


@dataclass(frozen=True)
class TrainConfig:
    """What the harness reads from every method's config; methods inherit it and change the defaults."""

    lr: float = 1e-5
    epochs: int | None = 30  # passes over the forget set; none where `steps` are given
    steps: int | None = None  # optimiser steps for each concept to forget; none where `epochs` are given
    batch_size: int = 8
    grad_accumulation: int = 1
    optimizer: str = "adam"  # one of bench.training.optimizers.NAMES
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    ema_decay: float | None = None  # the result is then the moving average
    teacher: str = "original"  # in a sequence of requests: the "original" weights, or the "previous" ones
    regulariser: str = (
        "none"  # what holds weights where the request found them, one of bench.training.regularisers.NAMES
    )
    regulariser_weight: float | None = None  # of l1 and l2; None: the usual one of bench.training.regularisers
    regulariser_energy: float = 0.99  # of projection: share of what retained prompts span that stays untouched

    ALTERNATIVES: ClassVar = (("epochs", "steps"),)

    def __post_init__(self) -> None:
        require_finite(self)
        optimizers.require(self.optimizer)
        regularisers.require(self.regulariser)
        require_teacher(self.teacher)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training takes either epochs or steps: give one, and not the other")
        length = self.epochs if self.steps is None else self.steps
        if (self.regulariser_weight or 0) < 0 or not 0 < self.regulariser_energy <= 1:
            raise ValueError("regulariser_weight must be at least 0, and regulariser_energy within 0..1, without 0")
        if min(length or 0, self.batch_size, self.grad_accumulation) < 1 or self.lr < 0:
            raise ValueError("epochs, steps, batch_size and grad_accumulation must be at least 1, lr at least 0")

    def batches(self, images: int) -> int:
        """Batches of a pass over so many images to forget."""
        return math.ceil(images / self.batch_size)

    def length(self, batches: int, concepts: int = 1) -> int:
        """Optimiser steps of a training with so many batches a pass, to forget so many concepts."""
        return (self.steps or 0) * concepts or (self.epochs or 0) * math.ceil(batches / self.grad_accumulation)


class NonFiniteLoss(ArithmeticError):
    """Training diverged."""


class Unlearner(Protocol):
    """What the machine asks of a method; `methods.base.Method` answers most of it."""

    config: Any
    resumable: ClassVar[bool]

    def trains(self, parameter: str) -> bool: ...
    def prepare(self, harness: Harness) -> None: ...
    def edit(self, harness: Harness) -> None: ...
    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor: ...
    def after_backward(self, harness: Harness) -> None: ...
    def after_step(self, harness: Harness) -> None: ...
    def finish(self, harness: Harness) -> None: ...


def fit(harness: Harness, method: Unlearner) -> None:
    """Passes over the forget set under `method.loss`, `config.epochs` or `config.steps` long.

    A pass that ends with fewer batches than `grad_accumulation` steps with those it has. Where the harness has a
    checkpoint of this training, it goes on from there, to the same weights as without the interruption; it leaves one
    between two passes when one is due. Raises NonFiniteLoss, and ValueError if the method trains no parameter of this
    backbone.
    """
    config: TrainConfig = method.config
    parameters = list(harness.trained.values())
    if not parameters:
        raise ValueError("no parameter of this backbone is trained by the method")
    optimizer = optimizers.build(config.optimizer, parameters, config.lr, config.weight_decay, harness.device)
    average = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay is not None else None
    harness.averaged = {n: p.detach().clone() for n, p in harness.trained.items()} if average else {}
    batches = harness.batch_count(config.batch_size)
    steps = config.length(batches, len(harness.task.forget))
    held = _held(harness, config)
    harness.trainings += 1
    done = _resume(harness, optimizer) if method.resumable else 0
    while done < steps:
        for i, batch in enumerate(harness.forget_batches(config.batch_size), start=1):
            loss = method.loss(harness, batch)
            if not torch.isfinite(loss):
                raise NonFiniteLoss(f"loss is {loss.item()} at step {done + 1} of {steps}")
            first = (i - 1) // config.grad_accumulation * config.grad_accumulation
            (loss / min(config.grad_accumulation, batches - first)).backward()  # the last step may have fewer
            if i % config.grad_accumulation and i != batches:
                continue
            if held:
                held.after_backward()  # before the method, whose mask then holds for this as well
            method.after_backward(harness)
            if config.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            if held:
                held.before_step()
            optimizer.step()
            if held:
                held.after_step()
            optimizer.zero_grad(set_to_none=True)
            harness.meter.steps, done = harness.meter.steps + 1, done + 1
            if average:
                average(list(harness.averaged.values()), parameters, done)
            harness.meter.look()
            method.after_step(harness)
            harness.on_step(done, steps, loss.item())
            _snap(harness, done, steps)
            if done == steps:
                break
        if harness.checkpoint and method.resumable and done < steps and harness.checkpoint.due():
            _save(harness, optimizer, done)
    with torch.no_grad():
        for name, mean in harness.averaged.items():
            harness.trained[name].copy_(mean)


def _held(harness: Harness, config: TrainConfig) -> regularisers.Regulariser | None:
    if config.regulariser == "none":
        return None
    found = {name: harness.start.get(name, harness.original[name]) for name in harness.trained}
    weight = config.regulariser_weight
    if weight is None:
        weight = regularisers.usual(config.regulariser, harness.trained)
    given = weight, config.regulariser_energy, harness.trained, found
    return regularisers.build(config.regulariser, *given, harness.retained_states)


def _snap(harness: Harness, done: int, steps: int) -> None:
    passed = harness.snapshots.passed(done, steps) if harness.snapshots else ()
    if harness.snapshots and passed:
        harness.meter.stop()  # the method is not charged for it
        weights = harness.changed(harness.averaged or None)
        for part in passed:
            harness.snapshots.keep(part, weights)
        harness.meter.start()


def _save(harness: Harness, optimizer: torch.optim.Optimizer, done: int) -> None:
    assert harness.checkpoint is not None
    harness.meter.stop()  # the method is not charged for it
    tensors: dict[str, torch.Tensor] = {f"trained/{name}": tensor for name, tensor in harness.trained.items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in harness.averaged.items()}
    moments, numbers = optimizers.state_of(optimizer)
    tensors |= {f"optimizer/{name}": tensor for name, tensor in moments.items()}
    tensors["generator"] = harness.generator.get_state()
    record = {"training": harness.trainings, "done": done, "optimizer": numbers}
    harness.checkpoint.save(tensors, record | {"cost": harness.meter.facts(), "seen": harness.ledger.seen()})
    harness.meter.start()


def _resume(harness: Harness, optimizer: torch.optim.Optimizer) -> int:
    """Put everything back as the checkpoint of this training has it; returns the steps it had done, 0 without one."""
    harness.meter.stop()
    saved = harness.checkpoint.load() if harness.checkpoint else None
    done = 0
    if saved and saved[1]["training"] == harness.trainings:
        tensors, record = saved
        with torch.no_grad():
            for name, parameter in harness.trained.items():
                parameter.copy_(tensors[f"trained/{name}"])
            for name, mean in harness.averaged.items():
                mean.copy_(tensors[f"averaged/{name}"])
        prefix = "optimizer/"
        moments = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        optimizers.restore(optimizer, list(harness.trained.values()), moments, record["optimizer"])
        harness.generator.set_state(tensors["generator"])
        harness.meter.restore(record["cost"])  # preparing, done anew here, is in it already
        harness.ledger.restore(record["seen"])
        done = record["done"]
    harness.meter.start()
    return done
