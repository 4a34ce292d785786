"""Compares the noise that a model predicts for a prompt with its predictions for the null prompt and other prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bench.backbones import finite
from bench.backbones.noise_schedule import noising
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, seed_of
from bench.cells.artifact import NETWORKS, Artifact, Key, StageOutput
from bench.core import digest
from bench.core.store import Entry
from bench.core.task import Task
from bench.suites.neighbours import nearest_neighbour
from bench.training import attachment
from bench.worlds.base import World

NULL, WORD, REST, NEAR = "null", "word", "rest", "near"  # the kinds of prompts that a prompt is compared with


def timesteps(backbone: Backbone, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps whose log-SNRs lie evenly over the backbone's whole range, and these log-SNRs.

    The log-SNR is log(alpha_bar / (1 - alpha_bar)). Returns int64 (T,) in rising order and float64 (T,) in falling
    order. T is `count`, or less if the training schedule is coarser than the grid.
    """
    alphas = noising(backbone.noise_schedule).alphas_cumprod.double()
    snr = torch.log(alphas / (1 - alphas))
    grid = torch.linspace(float(snr[0]), float(snr[-1]), count, dtype=torch.float64)
    nearest = (snr.unsqueeze(0) - grid.unsqueeze(1)).abs().argmin(1).unique()
    return nearest, snr[nearest]


def neighbours(world: World, task: Task) -> dict[str, str]:
    """Forgotten concept -> the nearest concept of its domain that the task keeps, if it keeps any."""
    kept = {c: [other for other in task.in_domain if other in world.domain_members(c)] for c in task.forget}
    return {c: nearest_neighbour(world, c, others)[0] for c, others in kept.items() if others}


def other_prompts(
    world: World, task: Task, concepts: Sequence[str], specs: Sequence[ImageSpec]
) -> dict[str, tuple[str, ...]]:
    """For each kind of prompt, one prompt for each image spec, with which `prompt_gaps` compares the spec's own prompt.

    - WORD: only the concept's name (`World.bare_name`).
    - REST: the prompt with the concept's superclass instead of its name (`World.superclass_prompts`).
    - NEAR: the prompt with the name of the concept's neighbour (`neighbours`) instead of its name.

    If a spec has no prompt of a kind, its own prompt is used, and the distance is 0. A kind that no spec has is left
    out. WORD is present exactly if REST is.

    Args:
        world: the world of the concepts.
        task: the task, which determines the neighbours.
        concepts: the concept of each spec.
        specs: the image specs.
    """
    near, prompts = neighbours(world, task), dict[str, tuple[str, ...]]()
    of = {c: world.prompts("evaluate", c) for c in {*concepts, *near.values()}}
    rest = {c: world.superclass_prompts(c, "evaluate") for c in concepts}
    indices = [of[c].index(spec.prompt) for c, spec in zip(concepts, specs, strict=True)]
    rows = list(zip(concepts, indices, specs, strict=True))
    if any(rest.values()):
        prompts[WORD] = tuple(world.bare_name(c) for c in concepts)
        prompts[REST] = tuple(rest[c][i] if rest[c] else spec.prompt for c, i, spec in rows)
    if near:
        prompts[NEAR] = tuple(of[near[c]][i] if c in near else spec.prompt for c, i, spec in rows)
    return prompts


@torch.inference_mode()
def gaps(
    backbone: Backbone, specs: Sequence[ImageSpec], latents: torch.Tensor, seed: int, count: int, batch_size: int
) -> dict[str, torch.Tensor]:
    """||eps(x_t, c) - eps(x_t, null)||^2 with the current weights, for each image and each of `timesteps`.

    x_t is the image's latents with noise that depends only on (seed, prompt, index, t). So it is the same for every
    model and every batch size.

    Args:
        backbone: the networks.
        specs: the N image specs; c is the prompt of the spec.
        latents: the final latents of the images, float32 (N, C, h, w).
        seed: seed of the noise.
        count: number of timesteps, as in `timesteps`.
        batch_size: images in one batch.

    Returns "gaps", float64 (N, T), and "logsnr", float64 (T,), on the CPU.
    """
    times, logsnr = timesteps(backbone, count)
    everywhere = torch.ones(len(specs), len(times), dtype=torch.bool)
    distances = _distances(backbone, specs, latents, _null(specs), times, everywhere, seed, batch_size)
    return {"gaps": distances[NULL], "logsnr": logsnr}


@torch.inference_mode()
def prompt_gaps(
    backbone: Backbone,
    specs: Sequence[ImageSpec],
    latents: torch.Tensor,
    others: Mapping[str, Sequence[str]],
    seed: int,
    count: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """The distances of `gaps`, and the same distances with other prompts instead of the null prompt.

    The distances to `others` are computed at every second timestep: at the even ones for half of the images, at the odd
    ones for the other half. A mean over images then covers all timesteps at half the cost.

    Args:
        others: kind -> N prompts, as `other_prompts` returns them. The other arguments are those of `gaps`.

    Returns NULL and each kind of `others`, float64 (N, T), where distances that were not computed are 0. "looked", bool
    (N, T), is True where the distances to `others` were computed. "logsnr" is as in `gaps`.
    """
    times, logsnr = timesteps(backbone, count)
    # i + spec.index: with either number alone, each prompt could get only one half of the timesteps
    turns = torch.tensor([i + spec.index for i, spec in enumerate(specs)])
    looked = (turns.unsqueeze(1) + torch.arange(len(times))) % 2 == 0
    null = _null(specs)
    distances = _distances(backbone, specs, latents, {**null, **others}, times, looked, seed, batch_size)
    distances[NULL] += _distances(backbone, specs, latents, null, times, ~looked, seed, batch_size)[NULL]
    return {**distances, "looked": looked, "logsnr": logsnr}


def _null(specs: Sequence[ImageSpec]) -> dict[str, tuple[str, ...]]:
    return {NULL: ("",) * len(specs)}


def _distances(
    backbone: Backbone,
    specs: Sequence[ImageSpec],
    latents: torch.Tensor,
    others: Mapping[str, Sequence[str]],
    times: torch.Tensor,
    where: torch.Tensor,
    seed: int,
    batch_size: int,
) -> dict[str, torch.Tensor]:
    """Squared distances between the predictions for each spec's own prompt and for its prompts in `others`.

    Returns float64 (N, T) for each kind of `others`. They are computed where `where`, bool (N, T), is True; elsewhere
    they are 0.
    """
    scheduler = noising(backbone.noise_schedule)
    distances = {name: torch.zeros(where.shape, dtype=torch.float64) for name in others}
    at_once = max(1, 2 * batch_size // (1 + len(others)))
    for batch in where.nonzero().split(at_once):
        i, at = batch.unbind(1)
        t = times[at]
        clean = latents[i].float()
        noise = torch.stack([_noise(clean.shape[1:], seed, specs[a], int(b)) for a, b in zip(i, t, strict=True)])
        noised = scheduler.add_noise(clean, noise, t).to(backbone.device)
        prompts = [[spec.prompt for spec in specs], *others.values()]
        embeds = backbone.embed([given[a] for given in prompts for a in i])
        # never in bfloat16, whose rounding error is larger than the small differences; TF32's is not (docs/protocol.md)
        predicted = backbone.unet(
            torch.cat([noised] * len(prompts)), torch.cat([t] * len(prompts)).to(backbone.device), embeds,
            return_dict=False,
        )[0]  # fmt: skip
        finite.require(predicted, "the predictions of the probe", [given[a] for given in prompts for a in i])
        own, *rest = predicted.double().chunk(len(prompts))
        for name, other in zip(others, rest, strict=True):
            distances[name][i, at] = (own - other).flatten(1).square().sum(1).cpu()
    return distances


def _noise(shape: torch.Size, seed: int, spec: ImageSpec, t: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed_of("probe", seed, spec.prompt, spec.index, t))
    return torch.randn(shape, generator=generator)


class Probes(Artifact[[Entry, Entry, Task]]):
    """The tensors that `gaps` returns for the evaluation images of the concepts that a task forgets.

    The network is looked at with what a method attached to it. A method that changes only the guidance leaves the
    network as it is, so its distances are those of the untouched model, at the images of the method.

    The inputs are the weights, the entry of all evaluation images of these weights, and the task.
    """

    name = kind = "probes"
    libraries = NETWORKS

    def key(self, weights: Entry, images: Entry, task: Task) -> Key:
        return {**self._probed(weights, images, task), **self.stamp()}

    def compute(self, weights: Entry, images: Entry, task: Task) -> StageOutput:
        protocol, context, specs = self.plan.protocol, self.context, self._specs(task)
        context.report("probing", 0, len(specs))
        with context.model(weights) as model:
            inputs = model, specs, self._latents(images, task)
            return gaps(*inputs, protocol.evaluation_seed, protocol.probe_timesteps, self.plan.sample_batch), {}

    def _probed(self, weights: Entry, images: Entry, task: Task) -> Key:
        return {
            "backbone": self.context.content,
            "weights": attachment.identity(weights),
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
    """The tensors that `prompt_gaps` returns for the same images. The entry of `Probes` is stored as well."""

    name = kind = "words"

    def key(self, weights: Entry, images: Entry, task: Task) -> Key:
        others = digest.of_json(self._others(task))
        return {**self._probed(weights, images, task), "others": others, **self.stamp()}

    def compute(self, weights: Entry, images: Entry, task: Task) -> StageOutput:
        protocol, context, specs = self.plan.protocol, self.context, self._specs(task)
        context.report("probing", 0, len(specs))
        with context.model(weights) as model:
            inputs = model, specs, self._latents(images, task), self._others(task)
            distances = prompt_gaps(
                *inputs, protocol.evaluation_seed, protocol.probe_timesteps, self.plan.sample_batch
            )  # fmt: skip
        shared = {"gaps": distances[NULL], "logsnr": distances["logsnr"]}
        alone = Probes(context)
        self.store.get_or_compute(alone.kind, alone.key(weights, images, task), lambda: (shared, {}))
        return distances, {}

    def _others(self, task: Task) -> dict[str, tuple[str, ...]]:
        concepts = [concept for concept, _ in self.context.requested if concept in task.forget]
        return other_prompts(self.plan.world, task, concepts, self._specs(task))
