"""A look into the model itself: how differently it predicts noise with a prompt, without it, and with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, seed_of
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput
from bench.core import device, digest
from bench.core.store import Entry
from bench.core.task import Task
from bench.suites.neighbours import nearest_neighbour
from bench.worlds.base import World

NULL, WORD, REST, NEAR = "null", "word", "rest", "near"  # what a prompt's predictions are compared with


def timesteps(backbone: Backbone, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """About `count` timesteps whose log-SNRs lie evenly over the backbone's whole range, and these log-SNRs.

    int64 (T,) rising, and float64 (T,) falling: log(alpha_bar / (1 - alpha_bar)). Where the training schedule is
    coarser than the grid, fewer timesteps come back.
    """
    from diffusers import DDPMScheduler  # seconds to import; lists need none of it

    alphas = DDPMScheduler.from_config(backbone.pipeline.scheduler.config).alphas_cumprod.double()
    snr = torch.log(alphas / (1 - alphas))
    grid = torch.linspace(float(snr[0]), float(snr[-1]), count, dtype=torch.float64)
    nearest = (snr.unsqueeze(0) - grid.unsqueeze(1)).abs().argmin(1).unique()
    return nearest, snr[nearest]


def neighbours(world: World, task: Task) -> dict[str, str]:
    """Forgotten concept -> the one of its kind that is closest to it, of those that the task keeps, if it keeps any."""
    kept = {c: [other for other in task.in_domain if other in world.domain_members(c)] for c in task.forget}
    return {c: nearest_neighbour(world, c, others)[0] for c, others in kept.items() if others}


def contexts(world: World, task: Task, asked: Sequence[str], wanted: Sequence[ImageSpec]) -> dict[str, tuple[str, ...]]:
    """What `words` shows the model in place of each shot's prompt; `asked` has the concept that each is about.

    WORD is the concept's name alone (`World.bare_name`). REST is the prompt with the concept's superclass in place of
    its name (`World.superclass_prompts`). NEAR is the prompt with the name of the concept's neighbour (`neighbours`) in
    its place. Where a spec has no such prompt, its own prompt stands there and nothing differs. A kind that no spec has
    is left out. WORD is there whenever REST is.
    """
    near, found = neighbours(world, task), dict[str, tuple[str, ...]]()
    of = {c: world.prompts("evaluate", c) for c in {*asked, *near.values()}}
    rest = {c: world.superclass_prompts(c, "evaluate") for c in asked}
    places = [of[c].index(spec.prompt) for c, spec in zip(asked, wanted, strict=True)]
    rows = list(zip(asked, places, wanted, strict=True))
    if any(rest.values()):
        found[WORD] = tuple(world.bare_name(c) for c in asked)
        found[REST] = tuple(rest[c][i] if rest[c] else spec.prompt for c, i, spec in rows)
    if near:
        found[NEAR] = tuple(of[near[c]][i] if c in near else spec.prompt for c, i, spec in rows)
    return found


@torch.inference_mode()
@device.exact()
def gaps(
    backbone: Backbone, wanted: Sequence[ImageSpec], latents: torch.Tensor, seed: int, count: int, batch_size: int
) -> dict[str, torch.Tensor]:
    """||eps(x_t, c) - eps(x_t, null)||^2 of the present weights at `timesteps`, for each spec and its final latents.

    Returns "gaps", float64 (N, T), and "logsnr", float64 (T,). x_t is the latents under noise that follows from (seed,
    prompt, index, t) alone: the same for every model, whatever the batch.
    """
    times, logsnr = timesteps(backbone, count)
    everywhere = torch.ones(len(wanted), len(times), dtype=torch.bool)
    found = _distances(backbone, wanted, latents, _null(wanted), times, everywhere, seed, batch_size)
    return {"gaps": found[NULL], "logsnr": logsnr}


@torch.inference_mode()
@device.exact()
def words(
    backbone: Backbone,
    wanted: Sequence[ImageSpec],
    latents: torch.Tensor,
    others: Mapping[str, Sequence[str]],
    seed: int,
    count: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """The same as `gaps` under NULL, and the same distance from each prompt of `others`: float64 (N, T) each.

    Those from `others` at every other of the noise levels, at the ones between in every other image, and 0 elsewhere:
    a mean over images sees all levels for half the price. "looked", bool (N, T), says where; "logsnr" is as in `gaps`.
    """
    times, logsnr = timesteps(backbone, count)
    # by image and by prompt in turns, or each prompt would be seen at its own half of the levels
    turns = torch.tensor([i + spec.index for i, spec in enumerate(wanted)])
    looked = (turns.unsqueeze(1) + torch.arange(len(times))) % 2 == 0
    null = _null(wanted)
    found = _distances(backbone, wanted, latents, {**null, **others}, times, looked, seed, batch_size)
    found[NULL] += _distances(backbone, wanted, latents, null, times, ~looked, seed, batch_size)[NULL]
    return {**found, "looked": looked, "logsnr": logsnr}


def _null(wanted: Sequence[ImageSpec]) -> dict[str, tuple[str, ...]]:
    return {NULL: ("",) * len(wanted)}


def _distances(
    backbone: Backbone,
    wanted: Sequence[ImageSpec],
    latents: torch.Tensor,
    others: Mapping[str, Sequence[str]],
    times: torch.Tensor,
    where: torch.Tensor,
    seed: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """Squared distance of each shot's prediction with its own prompt from those with each of `others`.

    float64 (N, T) each; 0 but for the specs and times that are True in `where`, bool (N, T).
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(backbone.pipeline.scheduler.config)
    found = {name: torch.zeros(where.shape, dtype=torch.float64) for name in others}
    at_once = max(1, 2 * batch_size // (1 + len(others)))
    for batch in where.nonzero().split(at_once):
        i, at = batch.unbind(1)
        t = times[at]
        clean = latents[i].float()
        noise = torch.stack([_noise(clean.shape[1:], seed, wanted[a], int(b)) for a, b in zip(i, t, strict=True)])
        noised = scheduler.add_noise(clean, noise, t).to(backbone.device)
        prompts = [[spec.prompt for spec in wanted], *others.values()]
        embeds = backbone.embed([given[a] for given in prompts for a in i])
        # in float32 whatever the run's precision: of the small difference, bfloat16 would leave its own rounding
        predicted = backbone.unet(
            torch.cat([noised] * len(prompts)), torch.cat([t] * len(prompts)).to(backbone.device), embeds,
            return_dict=False,
        )[0]  # fmt: skip
        own, *rest = predicted.double().chunk(len(prompts))
        for name, other in zip(others, rest, strict=True):
            found[name][i, at] = (own - other).flatten(1).square().sum(1).cpu()
    return found


def _noise(shape: torch.Size, seed: int, spec: ImageSpec, t: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed_of("probe", seed, spec.prompt, spec.index, t))
    return torch.randn(shape, generator=generator)


class Probes(Artifact[[Entry, Entry, Task]]):
    """The model's predictions for its own images of what a task forgets: what `gaps` returns.

    Inputs are the weights, all evaluation images under them, and the task.
    """

    name = kind = "probes"
    libraries = NETWORKS

    def key(self, weights: Entry, images: Entry, task: Task) -> Key:
        return {**self._probed(weights, images, task), **self.stamp()}

    def compute(self, weights: Entry, images: Entry, task: Task) -> StageOutput:
        protocol, context, specs = self.plan.protocol, self.context, self._specs(task)
        context.report("probing", 0, len(specs))
        with context.backbone.weights(weights.tensors()):
            inputs = context.backbone, specs, self._latents(images, task)
            return gaps(*inputs, protocol.evaluation_seed, protocol.probe_timesteps, self.plan.sample_batch), {}

    def _probed(self, weights: Entry, images: Entry, task: Task) -> Key:
        return {
            "backbone": self.context.content,
            "weights": weights.content,
            "images": images.content,
            "shots": digest.of_json(self._specs(task)),
            "seed": self.plan.protocol.evaluation_seed,
            "timesteps": self.plan.protocol.probe_timesteps,
        }

    def _specs(self, task: Task) -> tuple[ImageSpec, ...]:
        return tuple(self.context.specs[i] for concept, i in self.context.requested if concept in task.forget)

    def _latents(self, images: Entry, task: Task) -> torch.Tensor:
        rows = [i for concept, i in self.context.requested if concept in task.forget]
        return images.tensors("latents")["latents"][rows]


class PromptProbes(Probes):
    """The same with other prompts besides: what `words` returns. The entry of `Probes` is stored along with it."""

    name = kind = "words"

    def key(self, weights: Entry, images: Entry, task: Task) -> Key:
        others = digest.of_json(self._others(task))
        return {**self._probed(weights, images, task), "others": others, **self.stamp()}

    def compute(self, weights: Entry, images: Entry, task: Task) -> StageOutput:
        protocol, context, specs = self.plan.protocol, self.context, self._specs(task)
        context.report("probing", 0, len(specs))
        with context.backbone.weights(weights.tensors()):
            inputs = context.backbone, specs, self._latents(images, task), self._others(task)
            found = words(*inputs, protocol.evaluation_seed, protocol.probe_timesteps, self.plan.sample_batch)
        shared = {"gaps": found[NULL], "logsnr": found["logsnr"]}
        alone = Probes(context)
        self.store.get_or_compute(alone.kind, alone.key(weights, images, task), lambda: (shared, {}))
        return found, {}

    def _others(self, task: Task) -> dict[str, tuple[str, ...]]:
        concepts = [concept for concept, _ in self.context.requested if concept in task.forget]
        return contexts(self.plan.world, task, concepts, self._specs(task))
