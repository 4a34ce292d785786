"""The referee: everything about unlearning that is not in a method's paper, the same for every method.

Methods see `Harness`, `Batch` and `TrainConfig`, and nothing else of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench import paths
from bench.backbone import Backbone
from bench.forget_set import LatentSet
from bench.ledger import Ledger, Meter
from bench.sampler import seed_of
from bench.suites import Task

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


@dataclass(frozen=True)
class Batch:
    """Some examples. A method that leaves `latents` alone has used their prompts only.

    Args:
        prompt_embeds: of the prompts that asked for them, float32 (B, tokens, width).
        concepts, templates: what each shows, and which of its concept's prompts asked for it.
        read: () -> `latents`.
    """

    prompt_embeds: torch.Tensor
    concepts: tuple[str, ...]
    templates: tuple[int, ...]
    read: Callable[[], torch.Tensor] = field(repr=False)

    @cached_property
    def latents(self) -> torch.Tensor:
        """Clean latents, float32 (B, C, h, w) on the run's device; an image is in the ledger once this was read."""
        return self.read()

    def __len__(self) -> int:
        return len(self.concepts)


@dataclass(frozen=True)
class Outcome:
    """What a method leaves: the U-Net's changed tensors, what it cost, what it used."""

    delta: dict[str, torch.Tensor]
    cost: dict[str, float | int]
    ledger: Ledger


class NonFiniteLoss(ArithmeticError):
    """Training diverged."""


class Unlearner(Protocol):
    """What the harness asks of a method; `methods.base.Method` answers most of it."""

    config: Any

    def trains(self, parameter: str) -> bool: ...
    def prepare(self, harness: Harness) -> None: ...
    def edit(self, harness: Harness) -> None: ...
    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor: ...
    def after_backward(self, harness: Harness) -> None: ...
    def after_step(self, harness: Harness) -> None: ...
    def finish(self, harness: Harness) -> None: ...


class Harness:
    """One method's workplace for one task.

    Args:
        backbone: its U-Net is the student; it is back at its own weights when `run` returns or raises.
        task: what to forget and what must stay.
        forget: examples of what must go.
        retain: () -> examples of what must stay; called only if the method asks, and then in the ledger.
        prompts: concept -> its forget-split prompts, aligned between concepts.
        seed: of everything random in training.
        on_step: told (steps done, steps in all, loss) after each optimiser step.
        rest: forgotten concept -> its `prompts` without the concept, in the same order; for methods that ask for them.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        forget: LatentSet,
        retain: Callable[[], LatentSet],
        prompts: Mapping[str, tuple[str, ...]],
        seed: int,
        on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
        rest: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        from diffusers import DDPMScheduler  # seconds to import; lists need none of it

        self.unet, self.task, self.device = backbone.unet, task, backbone.device
        self.noise_scheduler = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
        if self.noise_scheduler.config.prediction_type != "epsilon":
            raise ValueError("methods are written for noise prediction; this backbone predicts something else")
        self.generator = torch.Generator().manual_seed(seed_of("training", seed, task.name))
        self.meter, self.ledger = Meter(self.device), Ledger()
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.frozen: dict[str, torch.Tensor] = {}  # the teacher: originals of the trained weights alone
        self.averaged: dict[str, torch.Tensor] = {}  # their moving average, while a method with `ema_decay` trains
        self._backbone, self._forget, self._make_retain, self._prompts = backbone, forget, retain, prompts
        self._retain: LatentSet | None = None
        self._on_step, self._rest = on_step, rest or {}

    # What a method may call ------------------------------------------------------------------------------------

    def student(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the weights being trained: float32, the shape of `latents`."""
        self.meter.student_forwards += 1
        with self._backbone.autocast():
            return self.unet(latents, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0].float()

    @torch.no_grad()
    def teacher(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the untouched model: the student's network with the original trained weights put in."""
        self.meter.teacher_forwards += 1
        return self._swapped(self.frozen, latents, timesteps, prompt_embeds)

    @torch.no_grad()
    def average(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the moving average of the student's weights; metered as the student.

        Raises ValueError for a method that keeps none (its config's `ema_decay` is None).
        """
        if not self.averaged:
            raise ValueError("there is no moving average: set ema_decay in the method's config")
        self.meter.student_forwards += 1
        return self._swapped(self.averaged, latents, timesteps, prompt_embeds)

    def network(self, name: str) -> paths.Predict:
        """`student`, `teacher` or `average` by name. Raises ValueError for any other."""
        networks = {"student": self.student, "teacher": self.teacher, "average": self.average}
        if name not in networks:
            raise ValueError(f"unknown network {name!r}; known: {', '.join(networks)}")
        return networks[name]

    def null(self, count: int) -> torch.Tensor:
        """Embeddings of `count` empty prompts, (count, tokens, width)."""
        return self._backbone.embed([""] * count)

    def anchors(self, concepts: Sequence[str], templates: Sequence[int]) -> torch.Tensor:
        """Embeddings of the prompts that ask for `concepts` in the words of `templates`; noted in the ledger."""
        prompts = [self._prompts[c][t] for c, t in zip(concepts, templates, strict=True)]
        self.ledger.anchor_prompts.update(prompts)
        return self._backbone.embed(prompts)

    def rest(self, concepts: Sequence[str], templates: Sequence[int]) -> torch.Tensor:
        """Embeddings of the same prompts as `anchors`, with the concept left out; noted in the ledger like these.

        Raises ValueError if the world does not say what is left of a prompt without the concept.
        """
        if missing := [c for c in concepts if not self._rest.get(c)]:
            raise ValueError(f"this world has no prompts that leave out {missing[0]!r}")
        prompts = [self._rest[c][t] for c, t in zip(concepts, templates, strict=True)]
        self.ledger.anchor_prompts.update(prompts)
        return self._backbone.embed(prompts)

    def noised(
        self, latents: torch.Tensor, low: int = 0, high: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Diffuse clean latents to timesteps uniform in low..high, both included (default: all).

        Returns z_t, the noise, and the timesteps, int64 (B,). Raises ValueError if low..high is no range of timesteps.
        """
        timesteps = self._uniform(*self._range(low, high), len(latents))
        noise = torch.randn(latents.shape, generator=self.generator).to(self.device)
        return self.noise_scheduler.add_noise(latents, noise, timesteps), noise, timesteps

    @torch.no_grad()
    def sampled(
        self,
        prompt_embeds: torch.Tensor,
        network: str = "student",
        guidance_scale: float = 3.0,
        steps: int = 50,
        low: int = 0,
        high: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z_t of a network's own: its sampling path under the prompts, from pure noise, broken off at a random step.

        The path is DDIM in `steps` steps, without added noise, under classifier-free guidance. The step at which it
        breaks off is uniform, and one for the whole batch, so that the batch is as cheap as its longest member; t is
        drawn for each example, uniform in the bin of that step, as ESD (Gandikota et al., 2023) and SDD (Kim et al.,
        2023) do. Breaking off before the first step leaves pure noise and the highest t.

        Args:
            prompt_embeds: (B, tokens, width).
            network: "student", "teacher" or "average".
            guidance_scale: 1 is the bare conditional prediction, at half the cost.
            low, high: t stays within, both included (default: all); steps whose bin lies outside are never drawn.

        Returns z_t, float32 (B, C, h, w), and the timesteps, int64 (B,). The meter counts each step as one forward,
        though of twice the batch where it is guided. Raises ValueError for an unknown network, or if no step fits.
        """
        predict, scheduler = self.network(network), paths.ddim(self.noise_scheduler.config, steps)
        where = paths.stops(scheduler, *self._range(low, high))
        stop, first, last = where[int(torch.randint(len(where), (1,), generator=self.generator))]
        count = len(prompt_embeds)
        timesteps = self._uniform(first, last, count)
        noise = torch.randn(count, *self._backbone.latent_shape, generator=self.generator).to(self.device)
        null = self.null(count)
        return paths.follow(predict, scheduler, noise, prompt_embeds, null, guidance_scale, stop), timesteps

    def forget_batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the forget set in random order; the last batch may be smaller."""
        order = torch.randperm(len(self._forget), generator=self.generator).tolist()
        for start in range(0, len(order), batch_size):
            yield self._batch(self._forget, order[start : start + batch_size], self.ledger.forget_images)

    def retain_batch(self, size: int) -> Batch:
        """Random retained examples, all different if there are enough; noted in the ledger."""
        if self._retain is None:
            self.meter.stop()  # drawing them is shared between methods, and done once
            self._retain = self._make_retain()
            self.meter.start()
        indices = torch.randperm(len(self._retain), generator=self.generator)[:size].tolist()
        self.ledger.retain_images.update(indices)  # read or not: their prompts alone are help as well
        return self._batch(self._retain, indices, self.ledger.retain_images)

    def choose(self, options: Sequence[str]) -> str:
        """One of `options` at random, from the training seed."""
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]

    # What the machine calls ------------------------------------------------------------------------------------

    def run(self, method: Unlearner) -> Outcome:
        """Let `method` unlearn; return the changed tensors and leave the U-Net as it was found."""
        self.trained = {n: p for n, p in self.unet.named_parameters() if method.trains(n)}
        self.frozen = {n: p.detach().clone() for n, p in self.trained.items()}
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.meter.start()
        try:
            method.prepare(self)
            method.edit(self)
            method.finish(self)
            self.meter.stop()
            delta = {n: p.detach().cpu().clone() for n, p in self.trained.items() if not torch.equal(p, self.frozen[n])}
        finally:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.frozen[name]).requires_grad_(False)
                    parameter.grad = None
        if not all(torch.isfinite(t).all() for t in delta.values()):
            raise NonFiniteLoss("the method left NaN or infinite weights")
        facts = {**self.meter.facts(), "delta_bytes": sum(t.numel() * t.element_size() for t in delta.values())}
        return Outcome(delta, facts, self.ledger)

    def fit(self, method: Unlearner) -> None:
        """The training loop: passes over the forget set under `method.loss`, `config.epochs` or `config.steps` long.

        A pass that ends with fewer batches than `grad_accumulation` steps with those it has.
        """
        config: TrainConfig = method.config
        parameters = list(self.trained.values())
        if not parameters:
            raise ValueError("no parameter of this backbone is trained by the method")
        optimizer = OPTIMIZERS[config.optimizer](
            parameters, lr=config.lr, weight_decay=config.weight_decay, fused=self.device.type == "cuda"
        )
        average = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay is not None else None
        self.averaged = {n: p.detach().clone() for n, p in self.trained.items()} if average else {}
        batches = math.ceil(len(self._forget) / config.batch_size)
        steps = config.steps or (config.epochs or 0) * math.ceil(batches / config.grad_accumulation)
        done = 0
        while done < steps:
            for i, batch in enumerate(self.forget_batches(config.batch_size), start=1):
                loss = method.loss(self, batch)
                if not torch.isfinite(loss):
                    raise NonFiniteLoss(f"loss is {loss.item()} at step {done + 1} of {steps}")
                first = (i - 1) // config.grad_accumulation * config.grad_accumulation
                (loss / min(config.grad_accumulation, batches - first)).backward()  # the last step may have fewer
                if i % config.grad_accumulation and i != batches:
                    continue
                method.after_backward(self)
                if config.max_grad_norm is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                self.meter.steps, done = self.meter.steps + 1, done + 1
                if average:
                    average(list(self.averaged.values()), parameters, done)
                self.meter.look()
                method.after_step(self)
                self._on_step(done, steps, loss.item())
                if done == steps:
                    break
        with torch.no_grad():
            for name, mean in self.averaged.items():
                self.trained[name].copy_(mean)

    def _swapped(
        self, weights: dict[str, torch.Tensor], latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        arguments = {"encoder_hidden_states": embeds, "return_dict": False}
        with self._backbone.autocast():
            return functional_call(self.unet, weights, (latents, timesteps), arguments)[0].float()

    def _range(self, low: int, high: int | None) -> tuple[int, int]:
        last = self.noise_scheduler.config.num_train_timesteps - 1
        high = last if high is None else high
        if not 0 <= low <= high <= last:
            raise ValueError(f"timesteps {low}..{high} are not within 0..{last}")
        return low, high

    def _uniform(self, low: int, high: int, count: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (count,), generator=self.generator).to(self.device)

    def _batch(self, examples: LatentSet, indices: Sequence[int], used: set[int]) -> Batch:
        taken = examples.take(indices)
        prompts = [self._prompts[c][t] for c, t in zip(taken.concepts, taken.templates, strict=True)]

        def read() -> torch.Tensor:
            used.update(indices)
            return taken.latents.to(self.device)

        return Batch(self._backbone.embed(prompts), taken.concepts, taken.templates, read)
