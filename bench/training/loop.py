"""Run a method: the training loop, the same for every method that trains, and resuming it after an interruption."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.core.overrides import require_at_least, require_finite
from bench.training import optimizers, regularisers
from bench.training.accounting import DataUse
from bench.training.harness import Harness
from bench.training.student_teacher import require_teacher

if TYPE_CHECKING:
    from bench.training.method import Method

CHANGED_NOTHING = "the method changed nothing: its weights are those that it started from"


@dataclass(frozen=True)
class TrainConfig:
    """The settings that the training loop reads. A method's config inherits them and may change the defaults.

    Args:
        lr: learning rate, at least 0.
        epochs: passes over the forget set. None if `steps` is given.
        steps: optimiser steps for each concept to forget. None if `epochs` is given.
        batch_size: examples in a batch.
        grad_accumulation: batches whose gradients are averaged before each optimiser step.
        optimizer: one of `bench.training.optimizers.NAMES`.
        weight_decay: as the optimiser defines it, at least 0.
        max_grad_norm: gradients are clipped to this norm, more than 0. None: no clipping.
        ema_decay: in [0, 1), decay of an exponential moving average of the weights, which is then the result. None: no
            average.
        teacher: in a sequence of requests, whether the teacher has the "original" or the "previous" weights.
        regulariser: one of `bench.training.regularisers.NAMES`.
        regulariser_weight: weight of the l1 or l2 penalty, at least 0. None: the default of
            `bench.training.regularisers`.
        regulariser_energy: in (0, 1]. The projection protects directions that hold this share of the retained prompts'
            squared norm.

    Raises ValueError for a value out of range, for an unknown name, and unless exactly one of `epochs` and `steps` is
    given.

    Example:
        >>> TrainConfig(epochs=None, steps=500).lr
        1e-05
        >>> TrainConfig(steps=500)
        Traceback (most recent call last):
        ValueError: training takes either epochs or steps: give one, and not the other
    """

    lr: float = 1e-5
    epochs: int | None = 30
    steps: int | None = None
    batch_size: int = 8
    grad_accumulation: int = 1
    optimizer: str = "adam"
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    teacher: str = "original"
    regulariser: str = "none"
    regulariser_weight: float | None = None
    regulariser_energy: float = 0.99

    ALTERNATIVES: ClassVar = (("epochs", "steps"),)

    def __post_init__(self) -> None:
        require_finite(self)
        optimizers.require(self.optimizer)
        regularisers.require(self.regulariser)
        require_teacher(self.teacher)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training takes either epochs or steps: give one, and not the other")
        require_at_least(self, 1, "epochs", "steps", "batch_size", "grad_accumulation")
        require_at_least(self, 0, "lr", "weight_decay", "regulariser_weight")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm must be more than 0, or none for no clipping, not {self.max_grad_norm}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and less than 1, or none, not {self.ema_decay}")
        if not 0 < self.regulariser_energy <= 1:
            raise ValueError(f"regulariser_energy must be more than 0 and at most 1, not {self.regulariser_energy}")

    def batches(self, images: int) -> int:
        """The number of batches in one pass over a forget set of `images` images.

        Example:
            >>> TrainConfig(batch_size=8).batches(20)
            3
        """
        return math.ceil(images / self.batch_size)

    def length(self, batches: int, concepts: int = 1) -> int:
        """The number of optimiser steps of a training.

        Args:
            batches: batches in one pass over the forget set.
            concepts: number of concepts to forget.

        Example:
            >>> TrainConfig(epochs=5, grad_accumulation=2).length(batches=3)
            10
            >>> TrainConfig(epochs=None, steps=7).length(batches=3, concepts=4)
            28
        """
        return (self.steps or 0) * concepts or (self.epochs or 0) * math.ceil(batches / self.grad_accumulation)


class NonFiniteLoss(ArithmeticError):
    """The training diverged: a loss or a weight is NaN or infinite."""


@dataclass(frozen=True)
class UnlearningResult:
    """What a method leaves.

    Args:
        delta: name -> tensor of the U-Net that differs from the backbone's, on the CPU.
        attached: name -> tensor that `Method.attach` needs, on the CPU.
        cost: the counts of the `CostMeter`, and "delta_bytes", the size of all these tensors.
        data_use: the data that the method used.
    """

    delta: dict[str, torch.Tensor]
    attached: dict[str, torch.Tensor]
    cost: dict[str, float | int]
    data_use: DataUse


def unlearn(harness: Harness, method: Method) -> UnlearningResult:
    """Run `method` once. Afterwards the U-Net has the weights of the backbone again, also after an error.

    A method that leaves the weights that it started from gets a warning, unless it is a control that trains nothing or
    acts while sampling.

    Raises NonFiniteLoss if a resulting weight is NaN or infinite, and whatever the method raises.

    Example, with `method` a Method that trains for two epochs on 8 images in batches of 4:
        >>> result = unlearn(harness, method)
        >>> result.cost["steps"], result.data_use.compensation
        (4, 'none')
        >>> all(".attn2." in name for name in result.delta)
        True
    """
    with harness.trainable(method.trains):
        harness.meter.start()
        method.prepare(harness)
        method.edit(harness)
        method.finish(harness)
        attached = attached_tensors(harness, method)
        harness.meter.stop()
        delta, trains = harness.changed_tensors(), bool(harness.trained)
    require_finite_weights({**delta, **attached}, "the method")
    unchanged = delta.keys() == harness.start.keys() and all(
        torch.equal(delta[n], harness.start[n].cpu()) for n in delta
    )
    # a control may be meant to train nothing, and a method that acts while sampling need not
    if unchanged and not method.attaches() and (trains or method.fidelity != "control"):
        harness.warn(CHANGED_NOTHING)
    left = [*delta.values(), *attached.values()]
    cost = {**harness.meter.counts(), "delta_bytes": sum(t.numel() * t.element_size() for t in left)}
    return UnlearningResult(delta, attached, cost, harness.data_use)


def attached_tensors(harness: Harness, method: Method) -> dict[str, torch.Tensor]:
    """Copies of what `method.tensors_to_attach` returns, on the CPU."""
    return {name: t.detach().cpu().clone() for name, t in method.tensors_to_attach(harness).items()}


def require_finite_weights(weights: Mapping[str, torch.Tensor], who: str) -> None:
    """Raise NonFiniteLoss if a tensor of the `weights` that `who` left has a NaN or infinite value."""
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise NonFiniteLoss(
            f"{who} left NaN or infinite weights in {len(broken)} of {len(weights)} tensors, first in {broken[0]!r}"
        )


def fit(harness: Harness, method: Method) -> None:
    """Minimise `method.loss` over the forget set, for the `epochs` or `steps` of the method's config.

    If a pass over the forget set ends with fewer batches than `grad_accumulation`, a step is taken with those. If the
    harness has a checkpoint of this training, the training resumes from it and ends with the same weights as without
    the interruption. It saves a checkpoint between two passes when one is due.

    Raises NonFiniteLoss if a loss is NaN or infinite, and ValueError if the method trains no parameter of this
    backbone.
    """
    config = method.config
    parameters = list(harness.trained.values())
    if not parameters:
        raise ValueError("no parameter of this backbone is trained by the method")
    optimizer = optimizers.build(config.optimizer, parameters, config.lr, config.weight_decay, harness.device)
    update_average = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay is not None else None
    harness.average_weights = {n: p.detach().clone() for n, p in harness.trained.items()} if update_average else {}
    batches = harness.batch_count(config.batch_size)
    steps = config.length(batches, len(harness.task.forget))
    regulariser = _regulariser(harness, config)
    harness.trainings_begun += 1
    done = _resume(harness, optimizer) if method.resumable else 0
    while done < steps:
        for i, batch in enumerate(harness.forget_batches(config.batch_size), start=1):
            loss = method.loss(harness, batch)
            first = (i - 1) // config.grad_accumulation * config.grad_accumulation
            (loss / min(config.grad_accumulation, batches - first)).backward()  # the last step may have fewer batches
            value = loss.item()  # the one wait for a CUDA device in a step, when all of the gradient is in its queue
            if not math.isfinite(value):
                raise NonFiniteLoss(f"loss is {value} at step {done + 1} of {steps}")
            if i % config.grad_accumulation and i != batches:
                continue
            if regulariser:
                regulariser.after_backward()  # before the method, so that its mask covers the penalty as well
            method.after_backward(harness)
            if config.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            if regulariser:
                regulariser.before_step()
            optimizer.step()
            if regulariser:
                regulariser.after_step()
            optimizer.zero_grad(set_to_none=True)
            harness.meter.steps, done = harness.meter.steps + 1, done + 1
            if update_average:
                update_average(list(harness.average_weights.values()), parameters, done)
            harness.meter.record_memory()
            method.after_step(harness)
            harness.on_step(done, steps, value)
            _keep_snapshots(harness, method, done, steps)
            if done == steps:
                break
        if harness.checkpoint and method.resumable and done < steps and harness.checkpoint.due():
            _save(harness, optimizer, done)
    with torch.no_grad():
        for name, mean in harness.average_weights.items():
            harness.trained[name].copy_(mean)


def _regulariser(harness: Harness, config: TrainConfig) -> regularisers.Regulariser | None:
    if config.regulariser == "none":
        return None
    start = {name: harness.start.get(name, harness.original_weights[name]) for name in harness.trained}
    weight = config.regulariser_weight
    if weight is None:
        weight = regularisers.default_weight(config.regulariser, harness.trained)
    settings = weight, config.regulariser_energy, harness.trained, start
    return regularisers.build(config.regulariser, *settings, harness.retained_token_states)


def _keep_snapshots(harness: Harness, method: Method, done: int, steps: int) -> None:
    parts = harness.snapshots.passed(done, steps) if harness.snapshots else ()
    if harness.snapshots and parts:
        harness.meter.stop()  # the method is not charged for keeping them
        weights, attached = harness.changed_tensors(harness.average_weights or None), attached_tensors(harness, method)
        for part in parts:
            harness.snapshots.keep(part, weights, attached)
        harness.meter.start()


def _save(harness: Harness, optimizer: torch.optim.Optimizer, done: int) -> None:
    assert harness.checkpoint is not None
    harness.meter.stop()  # the method is not charged for saving
    tensors: dict[str, torch.Tensor] = {f"trained/{name}": tensor for name, tensor in harness.trained.items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in harness.average_weights.items()}
    moments, numbers = optimizers.state_of(optimizer)
    tensors |= {f"optimizer/{name}": tensor for name, tensor in moments.items()}
    tensors["generator"] = harness.generator.get_state()
    record = {"training": harness.trainings_begun, "done": done, "optimizer": numbers}
    harness.checkpoint.save(tensors, record | {"cost": harness.meter.counts(), "seen": harness.data_use.state()})
    harness.meter.start()


def _resume(harness: Harness, optimizer: torch.optim.Optimizer) -> int:
    """Restore the checkpoint of this training, if there is one. Returns the number of steps done, 0 without one."""
    harness.meter.stop()
    saved = harness.checkpoint.load() if harness.checkpoint else None
    done = 0
    if saved and saved[1]["training"] == harness.trainings_begun:
        tensors, record = saved
        with torch.no_grad():
            for name, parameter in harness.trained.items():
                parameter.copy_(tensors[f"trained/{name}"])
            for name, mean in harness.average_weights.items():
                mean.copy_(tensors[f"averaged/{name}"])
        prefix = "optimizer/"
        moments = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        optimizers.restore(optimizer, list(harness.trained.values()), moments, record["optimizer"])
        harness.generator.set_state(tensors["generator"])
        harness.meter.restore(record["cost"])  # includes the cost of `prepare`, which has just run again
        harness.data_use.restore(record["seen"])
        done = record["done"]
    harness.meter.start()
    return done
