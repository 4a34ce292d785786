"""The referee: everything about unlearning that is not in a method's paper, the same for every method.

Methods see `Harness`, `Batch` and `TrainConfig`, and nothing else of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDPMScheduler
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

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
    epochs: int = 30  # passes over the forget set
    batch_size: int = 8
    grad_accumulation: int = 1
    optimizer: str = "adam"  # one of OPTIMIZERS
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    ema_decay: float | None = None  # the result is then the moving average

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        if min(self.epochs, self.batch_size, self.grad_accumulation) < 1 or self.lr < 0:
            raise ValueError("epochs, batch_size and grad_accumulation must be at least 1, lr at least 0")


@dataclass(frozen=True)
class Batch:
    """Some examples.

    Args:
        latents: clean, float32 (B, C, h, w) on the run's device.
        prompt_embeds: of the prompts that asked for them, float32 (B, tokens, width).
        concepts, templates: what each shows, and which of its concept's prompts asked for it.
    """

    latents: torch.Tensor
    prompt_embeds: torch.Tensor
    concepts: tuple[str, ...]
    templates: tuple[int, ...]

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
    ) -> None:
        self.unet, self.task, self.device = backbone.unet, task, backbone.device
        self.noise_scheduler = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
        if self.noise_scheduler.config.prediction_type != "epsilon":
            raise ValueError("methods are written for noise prediction; this backbone predicts something else")
        self.generator = torch.Generator().manual_seed(seed_of("training", seed, task.name))
        self.meter, self.ledger = Meter(self.device), Ledger()
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.frozen: dict[str, torch.Tensor] = {}  # the teacher: originals of the trained weights alone
        self._backbone, self._forget, self._make_retain, self._prompts = backbone, forget, retain, prompts
        self._retain: LatentSet | None = None
        self._on_step = on_step

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
        arguments = {"encoder_hidden_states": prompt_embeds, "return_dict": False}
        with self._backbone.autocast():
            return functional_call(self.unet, self.frozen, (latents, timesteps), arguments)[0].float()

    def null(self, count: int) -> torch.Tensor:
        """Embeddings of `count` empty prompts, (count, tokens, width)."""
        return self._backbone.embed([""] * count)

    def anchors(self, concepts: Sequence[str], templates: Sequence[int]) -> torch.Tensor:
        """Embeddings of the prompts that ask for `concepts` in the words of `templates`; noted in the ledger."""
        prompts = [self._prompts[c][t] for c, t in zip(concepts, templates, strict=True)]
        self.ledger.anchor_prompts.update(prompts)
        return self._backbone.embed(prompts)

    def noised(
        self, latents: torch.Tensor, low: int = 0, high: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Diffuse clean latents to timesteps uniform in low..high, both included (default: all).

        Returns z_t, the noise, and the timesteps, int64 (B,).
        """
        last = self.noise_scheduler.config.num_train_timesteps - 1
        high = last if high is None else high
        if not 0 <= low <= high <= last:
            raise ValueError(f"timesteps {low}..{high} are not within 0..{last}")
        timesteps = torch.randint(low, high + 1, (len(latents),), generator=self.generator).to(self.device)
        noise = torch.randn(latents.shape, generator=self.generator).to(self.device)
        return self.noise_scheduler.add_noise(latents, noise, timesteps), noise, timesteps

    def forget_batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the forget set in random order; the last batch may be smaller."""
        order = torch.randperm(len(self._forget), generator=self.generator).tolist()
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            self.ledger.forget_images.update(indices)
            yield self._batch(self._forget, indices)

    def retain_batch(self, size: int) -> Batch:
        """Random retained examples, all different if there are enough; noted in the ledger."""
        if self._retain is None:
            self.meter.stop()  # drawing them is shared between methods, and done once
            self._retain = self._make_retain()
            self.meter.start()
        indices = torch.randperm(len(self._retain), generator=self.generator)[:size].tolist()
        self.ledger.retain_images.update(indices)
        return self._batch(self._retain, indices)

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
        """The training loop: `config.epochs` passes over the forget set under `method.loss`."""
        config: TrainConfig = method.config
        parameters = list(self.trained.values())
        if not parameters:
            raise ValueError("no parameter of this backbone is trained by the method")
        optimizer = OPTIMIZERS[config.optimizer](
            parameters, lr=config.lr, weight_decay=config.weight_decay, fused=self.device.type == "cuda"
        )
        average = get_ema_multi_avg_fn(config.ema_decay) if config.ema_decay is not None else None
        averaged = [p.detach().clone() for p in parameters] if average else []
        batches = math.ceil(len(self._forget) / config.batch_size)
        steps = config.epochs * math.ceil(batches / config.grad_accumulation)
        for _ in range(config.epochs):
            for i, batch in enumerate(self.forget_batches(config.batch_size), start=1):
                loss = method.loss(self, batch)
                if not torch.isfinite(loss):
                    raise NonFiniteLoss(f"loss is {loss.item()} at step {self.meter.steps + 1} of {steps}")
                first = (i - 1) // config.grad_accumulation * config.grad_accumulation
                (loss / min(config.grad_accumulation, batches - first)).backward()  # the last step may have fewer
                if i % config.grad_accumulation and i != batches:
                    continue
                method.after_backward(self)
                if config.max_grad_norm is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                self.meter.steps += 1
                if average:
                    average(averaged, parameters, self.meter.steps)
                self.meter.look()
                method.after_step(self)
                self._on_step(self.meter.steps, steps, loss.item())
        with torch.no_grad():
            for parameter, mean in zip(parameters, averaged, strict=False):
                parameter.copy_(mean)

    def _batch(self, examples: LatentSet, indices: Sequence[int]) -> Batch:
        taken = examples.take(indices)
        prompts = [self._prompts[c][t] for c, t in zip(taken.concepts, taken.templates, strict=True)]
        embeds = self._backbone.embed(prompts)
        return Batch(taken.latents.to(self.device), embeds, taken.concepts, taken.templates)
