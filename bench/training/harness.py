"""A method's workplace: networks, examples and noise, the same for every method.

Of the machine, methods see `Harness` and `Batch`, and of bench.training.loop `TrainConfig` and `fit`; nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from bench.backbones import sampling_paths
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import seed_of
from bench.core.checkpoint import Checkpoint
from bench.core.task import Task
from bench.training.accounting import Ledger
from bench.training.forget_set import LatentSet
from bench.training.snapshots import Snapshots
from bench.training.student_teacher import Networks


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


class Harness(Networks):
    """One method's workplace for one task.

    Args:
        backbone: its U-Net is the student.
        task: what to forget and what must stay.
        forget: examples of what must go.
        retain: () -> examples of what must stay, which the U-Net may be asked to draw: it has its own weights then;
            called only if the method asks, and then in the ledger.
        prompts: concept -> its forget-split prompts, aligned between concepts.
        seed: of everything random in training.
        on_step: told (steps done, steps in all, loss) after each optimiser step.
        rest: forgotten concept -> its `prompts` without the concept, in the same order; for methods that ask for them.
        checkpoint: where training leaves its state now and then; None for nowhere.
        snapshots: what is kept of the weights along a training; None for nothing.
        start, teacher: as `Networks` takes them.
        siblings: forgotten concept -> concepts of its own domain that must stay; None: `task.in_domain` for each.
        alternate: whether a batch shows one concept, each of several in its turn, or any.
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
        checkpoint: Checkpoint | None = None,
        snapshots: Snapshots | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
        teacher: str = "original",
        siblings: Mapping[str, tuple[str, ...]] | None = None,
        alternate: bool = False,
    ) -> None:
        from diffusers import DDPMScheduler  # seconds to import; lists need none of it

        super().__init__(backbone, start, teacher)
        self.task = task
        self.siblings = siblings or dict.fromkeys(task.forget, task.in_domain)
        self.noise_scheduler = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
        if self.noise_scheduler.config.prediction_type != "epsilon":
            raise ValueError("methods are written for noise prediction; this backbone predicts something else")
        self.generator = torch.Generator().manual_seed(seed_of("training", seed, task.name))
        self.ledger, self.on_step = Ledger(), on_step
        self.checkpoint, self.snapshots = checkpoint, snapshots
        self.trainings = 0  # begun; nearly always one
        self._forget, self._make_retain, self._prompts, self._rest = forget, retain, prompts, rest or {}
        shown = dict.fromkeys(forget.concepts) if alternate else ()
        self._turns = [[i for i, c in enumerate(forget.concepts) if c == one] for one in shown]
        self._turns = self._turns or [[*range(len(forget))]]
        self._retain: LatentSet | None = None

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
            guidance_scale: of classifier-free guidance, at least 0. 1 is the conditional prediction alone and 0 the
                null prompt's alone; each costs half of what others do.
            low, high: t stays within, both included (default: all); steps whose bin lies outside are never drawn.

        Returns z_t, float32 (B, C, h, w), and the timesteps, int64 (B,). The meter counts each step as one forward,
        though of twice the batch where it is guided. Raises ValueError for an unknown network, for a negative or
        non-finite guidance scale, or if no step fits.
        """
        predict, scheduler = self.network(network), sampling_paths.ddim(self.noise_scheduler.config, steps)
        where = sampling_paths.stops(scheduler, *self._range(low, high))
        stop, first, last = where[int(torch.randint(len(where), (1,), generator=self.generator))]
        count = len(prompt_embeds)
        timesteps = self._uniform(first, last, count)
        noise = torch.randn(count, *self._backbone.latent_shape, generator=self.generator).to(self.device)
        null = self.null(count)
        return sampling_paths.follow(predict, scheduler, noise, prompt_embeds, null, guidance_scale, stop), timesteps

    def forget_batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the forget set in random order; the last batch, or the last of a concept, may be smaller."""
        orders = [[own[i] for i in torch.randperm(len(own), generator=self.generator).tolist()] for own in self._turns]
        for start in range(0, max(map(len, orders)), batch_size):
            for order in orders:
                if part := order[start : start + batch_size]:
                    yield self._batch(self._forget, part, self.ledger.forget_images)

    def batch_count(self, batch_size: int) -> int:
        """Batches of one pass."""
        return sum(math.ceil(len(own) / batch_size) for own in self._turns)

    def retained_states(self) -> torch.Tensor:
        """Token states of the prompts that ask for what must stay, float32 (N, width); noted in the ledger."""
        kept = [prompt for c in self.task.in_domain + self.task.out_of_domain for prompt in self._prompts[c]]
        self.ledger.anchor_prompts.update(kept)
        return self._backbone.embed(kept).flatten(0, 1)

    def retain_batch(self, size: int) -> Batch:
        """Random retained examples, all different if there are enough; noted in the ledger."""
        if self._retain is None:
            self.meter.stop()  # drawing them is shared between methods, and done once
            with self.untouched():
                self._retain = self._make_retain()
            self.meter.start()
        indices = torch.randperm(len(self._retain), generator=self.generator)[:size].tolist()
        self.ledger.retain_images.update(indices)  # read or not: their prompts alone are help as well
        return self._batch(self._retain, indices, self.ledger.retain_images)

    def choose(self, options: Sequence[str]) -> str:
        """One of `options` at random, from the training seed."""
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]

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
