"""What a method works with: networks, examples, noise and random choices. They are the same for every method.

A method imports `Harness`, `Batch`, `Method` and `MethodConfig` from `methods.base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from bench.backbones import noise_schedule, sampling_paths
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import seed_of
from bench.core.checkpoint import Checkpoint
from bench.core.task import Task
from bench.training.forget_set import Batch, LatentSet
from bench.training.prompts import Prompts
from bench.training.snapshots import Snapshots


class Harness(Prompts):
    """Everything that one method works with on one task.

    Everything random in a training comes from `generator`, which is seeded with `seed`. A method that draws random
    numbers of its own draws them from `generator` or `choose`.

    Args:
        backbone: the loaded pipeline. Its U-Net is the student. Raises ValueError unless it predicts noise.
        task: the concepts to forget and the concepts to keep.
        forget: latents of the concepts to forget.
        retain: returns latents of the concepts to keep. It is called once, when the method first asks for them, and
            may sample them with the U-Net, which then has the weights of the backbone.
        prompts: concept -> its training prompts. The i-th prompt of every concept has the same template.
        seed: seed of everything random in the training.
        on_step: called after each optimiser step with the number of steps done, the total, and the loss.
        superclass_prompts: concept to forget -> its `prompts` with the superclass in place of the concept's name, in
            the same order. Needed by methods that call `superclass_embeds`.
        checkpoint: where the training saves its state from time to time. None: nowhere.
        snapshots: receives the weights at several points of the training. None: nothing is kept.
        start, teacher: as in `StudentTeacher`.
        siblings: concept to forget -> concepts of the same domain to keep. None: `task.in_domain` for every concept.
        next_sibling: concept to forget -> the sibling after it in the order of its domain; None: its first sibling.
        words: concept -> the words that name it in its prompts, where these are not the concept itself.
        alternate: True if each batch shows one concept and the concepts take turns. False if batches mix concepts.
        warn: is called with each warning about the training: a sentence without a full stop that boards show beside
            the figures.

    Attributes:
        task, siblings, next_sibling, generator, warn: as above.
        noise_scheduler: the DDPMScheduler with the noise schedule of the backbone.
        alphas_cumprod: abar_t of every timestep, float32 (T,), on the CPU. The scheduler has the same tensor, which
            diffusers moves to the device.
        data_use: the data that the method has used so far.

    Example: one step of a training by hand.
        >>> batch = next(harness.forget_batches(4))
        >>> z, noise, t = harness.noised(batch.latents)
        >>> with harness.trainable(lambda name: ".attn2." in name):
        ...     target = harness.teacher(z, t, harness.null_embeds(len(batch)))
        ...     loss = (harness.student(z, t, batch.prompt_embeds) - target).square().mean()
        ...     loss.backward()
        >>> target.shape
        torch.Size([4, 4, 16, 16])
        >>> harness.meter.student_forwards, harness.meter.teacher_forwards
        (1, 1)
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
        superclass_prompts: Mapping[str, tuple[str, ...]] | None = None,
        checkpoint: Checkpoint | None = None,
        snapshots: Snapshots | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
        teacher: str = "original",
        siblings: Mapping[str, tuple[str, ...]] | None = None,
        next_sibling: Mapping[str, str] | None = None,
        words: Mapping[str, str] | None = None,
        alternate: bool = False,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(backbone, task, prompts, superclass_prompts, words, start, teacher)
        self.siblings = siblings or dict.fromkeys(task.forget, task.in_domain)
        self.next_sibling = next_sibling or {c: kept[0] for c, kept in self.siblings.items() if kept}
        self.noise_scheduler = noise_schedule.noising(backbone.noise_schedule)
        self.alphas_cumprod = self.noise_scheduler.alphas_cumprod
        self.generator = torch.Generator().manual_seed(seed_of("training", seed, task.name))
        self.on_step, self.warn = on_step, warn
        self.checkpoint, self.snapshots = checkpoint, snapshots
        self.trainings_begun = 0  # calls of `fit`: 1 for nearly every method
        self._forget, self._make_retain = forget, retain
        # Indices into the forget set. A batch never mixes two groups.
        self._forget_groups = [[*range(len(forget))]]
        if alternate and len(forget):
            shown = dict.fromkeys(forget.concepts)
            self._forget_groups = [[i for i, c in enumerate(forget.concepts) if c == concept] for concept in shown]
        self._retain: LatentSet | None = None
        # The batches of the present pass that are still to come, the present one first; see `sampled_ahead`.
        self._upcoming: list[list[int]] = []
        self._ahead: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # len(_upcoming) at a batch -> its z_t and t

    def noised(
        self, latents: torch.Tensor, low: int = 0, high: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Add noise to clean latents: z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps (Ho et al., 2020, equation 4).

        Args:
            latents: z_0, float32 (B, C, h, w).
            low, high: the timesteps are uniform in low..high, both included. Default: all timesteps.

        Returns z_t, float32 (B, C, h, w); the noise eps, of the same shape; and the timesteps t, int64 (B,). Raises
        ValueError unless 0 <= low <= high < the number of timesteps.

        Example:
            >>> z_t, noise, t = harness.noised(torch.zeros(3, 4, 16, 16), low=50, high=950)
            >>> z_t.shape, noise.shape, t.shape
            (torch.Size([3, 4, 16, 16]), torch.Size([3, 4, 16, 16]), torch.Size([3]))
        """
        timesteps = self._uniform(*self._range(low, high), len(latents))
        noise = self.sent(torch.randn(latents.shape, generator=self.generator))
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
        """Sample z_t with a network: follow its DDIM path from pure noise and stop at a random step.

        The path has `steps` steps, adds no noise, and uses classifier-free guidance. The whole batch stops at the same
        uniformly drawn step, so that no forward is wasted. The timestep of each example is uniform in the bin of that
        step, as in ESD (Gandikota et al., 2023) and SDD (Kim et al., 2023). A path that stops before its first step
        is pure noise, and its timesteps come from the highest bin.

        Args:
            prompt_embeds: float32 (B, tokens, width).
            network: "student", "teacher" or "average".
            guidance_scale: at least 0. At 1 only the conditional prediction is computed, and at 0 only the one for the
                null prompt. Each halves the cost.
            steps: DDIM steps of the whole path.
            low, high: the timesteps stay within low..high, both included. Default: all timesteps.

        Returns z_t, float32 (B, C, h, w), and the timesteps t, int64 (B,). The meter counts each step of the path as
        one forward. Raises ValueError for an unknown network, for a guidance scale that is negative or not finite, and
        if no step's bin lies within low..high.

        Example:
            >>> z_t, t = harness.sampled(harness.null_embeds(2), "teacher", steps=4)
            >>> z_t.shape, t.shape
            (torch.Size([2, 4, 16, 16]), torch.Size([2]))
        """
        return self._sampled([prompt_embeds], network, guidance_scale, steps, *self._range(low, high))[0]

    def sampled_ahead(
        self, batch: Batch, network: str, guidance_scale: float, steps: int, path_batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`sampled` for the prompts of `batch`, with the paths of `path_batch` batches drawn at once.

        The first of these batches draws the paths of all of them, each with a stop of its own, and the others use them.
        So the network that drew them may be up to `path_batch - 1` batches older, which the row's warnings say. Paths
        are drawn within one pass over the forget set. With a `path_batch` of 1 this is `sampled`.

        Args:
            batch: the batch that `forget_batches` yielded last. A method calls this once for each batch.
            path_batch: at least 1. The other arguments and the result are those of `sampled`.

        Example:
            >>> batch = next(harness.forget_batches(2))
            >>> z_t, t = harness.sampled_ahead(batch, "student", 3.0, 4, path_batch=2)
            >>> z_t.shape, t.shape
            (torch.Size([2, 4, 16, 16]), torch.Size([2]))
        """
        if (place := len(self._upcoming)) not in self._ahead:
            following = [self._embeds_of(self._forget.take(indices)) for indices in self._upcoming[1:path_batch]]
            asked = [batch.prompt_embeds, *following]
            drawn = self._sampled(asked, network, guidance_scale, steps, *self._range(0, None))
            self._ahead = {place - i: one for i, one in enumerate(drawn)}
            if path_batch > 1:
                self.warn(
                    f"path_batch={path_batch} is not the published method: z_t may come from the {network} as it was "
                    f"up to {path_batch - 1} batches before"
                )
        return self._ahead.pop(place)

    def forget_batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the forget set in random order.

        The last batch may be smaller, and where concepts take turns, so may the last batch of each concept.

        Example:
            >>> [len(batch) for batch in harness.forget_batches(3)]  # of 8 examples
            [3, 3, 2]
        """
        orders = [
            [group[i] for i in torch.randperm(len(group), generator=self.generator).tolist()]
            for group in self._forget_groups
        ]
        starts = range(0, max(map(len, orders)), batch_size)
        batches = [order[start : start + batch_size] for start in starts for order in orders if start < len(order)]
        self._ahead = {}
        for i, indices in enumerate(batches):
            self._upcoming = batches[i:]
            yield self._batch(self._forget, indices, self.data_use.forget_images)

    def batch_count(self, batch_size: int) -> int:
        """The number of batches that `forget_batches` yields.

        Example:
            >>> harness.batch_count(3)  # of 8 examples
            3
        """
        return sum(math.ceil(len(group) / batch_size) for group in self._forget_groups)

    def retain_batch(self, size: int) -> Batch:
        """`size` random examples of the concepts to keep, all different; fewer if there are fewer.

        They count as retain images, whether or not the method reads the latents: the prompts alone are help too.

        Example:
            >>> retained = harness.retain_batch(3)
            >>> retained.latents.shape
            torch.Size([3, 4, 16, 16])
            >>> harness.data_use.compensation
            'retain images'
        """
        if self._retain is None:
            self.meter.stop()  # all methods share these images, so none is charged for sampling them
            with self.with_original_weights():
                self._retain = self._make_retain()
            self.meter.start()
        indices = torch.randperm(len(self._retain), generator=self.generator)[:size].tolist()
        self.data_use.retain_images.update(indices)
        return self._batch(self._retain, indices, self.data_use.retain_images)

    def choose(self, options: Sequence[str]) -> str:
        """One of `options`, chosen uniformly.

        Example:
            >>> harness.choose(["cat", "dog"]) in ("cat", "dog")
            True
        """
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]

    def _sampled(
        self, asked: Sequence[torch.Tensor], network: str, guidance_scale: float, steps: int, low: int, high: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """z_t and t for each of `asked`, the embeddings of a batch of prompts. Each batch has a stop of its own."""
        predict, scheduler = self.network(network), sampling_paths.ddim(self._backbone.noise_schedule, steps)
        stops, starts, times = sampling_paths.stops(scheduler, low, high), [], []
        for embeds in asked:
            stop, first, last = stops[int(torch.randint(len(stops), (1,), generator=self.generator))]
            times.append(self._uniform(first, last, len(embeds)))
            noise = torch.randn(len(embeds), *self._backbone.latent_shape, generator=self.generator)
            start = self.sent(noise), embeds, self.null_embeds(len(embeds)), stop
            starts.append(sampling_paths.Start(*start))
        with self._unchanged(network):
            latents = sampling_paths.follow(predict, scheduler, starts, guidance_scale)
        return [*zip(latents, times, strict=True)]

    def _range(self, low: int, high: int | None) -> tuple[int, int]:
        last = self.noise_scheduler.config.num_train_timesteps - 1
        high = last if high is None else high
        if not 0 <= low <= high <= last:
            raise ValueError(f"timesteps {low}..{high} are not within 0..{last}")
        return low, high

    def _uniform(self, low: int, high: int, count: int) -> torch.Tensor:
        return self.sent(torch.randint(low, high + 1, (count,), generator=self.generator))

    def _batch(self, examples: LatentSet, indices: Sequence[int], used_images: set[int]) -> Batch:
        chosen = examples.take(indices)

        def read() -> torch.Tensor:
            used_images.update(indices)
            return self.sent(chosen.latents)

        return Batch(self._embeds_of(chosen), chosen.concepts, chosen.templates, read)

    def _embeds_of(self, examples: LatentSet) -> torch.Tensor:
        return self._backbone.embed(
            [self._prompts[c][t] for c, t in zip(examples.concepts, examples.templates, strict=True)]
        )
