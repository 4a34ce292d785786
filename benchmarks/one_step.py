"""One training step of a method, or one batch of images, with real tensors or with contentless tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from bench.backbones.pipeline import SMALL_MAP, Backbone
from bench.backbones.sampler import decode
from bench.core.task import Task
from bench.suites import SUITES
from bench.training import optimizers
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.worlds import WORLDS, World
from methods import CONTROLS, METHODS, Method

Build = Callable[[Method, list[torch.nn.Parameter]], Optimizer]

PATH_STEPS = 2  # of sampling paths in training: their length takes time and no memory


@dataclass(frozen=True)
class Load:
    """The size of the work.

    Args:
        size: side of the images in pixels.
        batch: examples per training step; None for the settings of each method.
        images: images that are drawn at a time.
        optimizer: optimiser in place of each method's own; None for the settings of each method.
        gradient_checkpointing: whether to use gradient checkpointing.
    """

    size: int = 512
    batch: int | None = 4
    images: int = 16
    optimizer: str | None = None
    gradient_checkpointing: bool = False


def trained_methods() -> tuple[str, ...]:
    """Every registered method that trains."""
    return tuple(name for name in METHODS.names() if name not in CONTROLS and METHODS.get(name).learns())


def stepping_methods() -> tuple[str, ...]:
    """Every registered method that trains in steps."""
    return tuple(name for name in trained_methods() if METHODS.get(name).takes_steps())


def method(name: str, load: Load) -> Method:
    """A method with its preset, but for one step of one batch."""
    kind = METHODS.get(name)
    batch = batch_of(name, load)
    changes: dict[str, object] = {"epochs": None, "steps": 1, "batch_size": batch, "grad_accumulation": 1}
    if "path_steps" in {field.name for field in dataclasses.fields(kind.Config)}:
        changes["path_steps"] = PATH_STEPS
    if load.optimizer is not None:
        changes["optimizer"] = load.optimizer
    return kind(dataclasses.replace(kind.Config(), **changes))  # type: ignore[arg-type]


def batch_of(name: str, load: Load) -> int:
    """Number of examples of one training step of a method."""
    return load.batch or METHODS.get(name).Config().batch_size


def harness(backbone: Backbone, count: int) -> Harness:
    """A harness in the pocket world with `count` forget examples and `count` retain examples."""
    world = WORLDS.get("pocket")
    return workplace(backbone, world, SUITES.get("smoke").tasks(world)[0], count)


def workplace(
    backbone: Backbone,
    world: World,
    task: Task,
    count: int,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Harness:
    """A harness for `task` with `count` forget examples and `count` retain examples of random latents."""
    prompts = {concept: world.prompts("forget", concept) for concept in task.concepts}
    kept = task.in_domain + task.out_of_domain

    def examples(concepts: tuple[str, ...]) -> LatentSet:
        names = tuple(concepts[i % len(concepts)] for i in range(count))
        return LatentSet(torch.randn(count, *backbone.latent_shape), names, (0,) * count)

    superclass_prompts = {concept: world.superclass_prompts(concept) for concept in task.forget}
    return Harness(
        backbone, task, examples(task.forget), lambda: examples(kept), prompts, 0, on_step, superclass_prompts,
        words={concept: world.bare_name(concept) for concept in task.concepts},
    )  # fmt: skip


def fit_to(backbone: Backbone, load: Load, fused: bool | None = None) -> None:
    """Set the networks' image size and switches to those of the load.

    `fused` says whether attention is one kernel; None for the choice of `bench.backbones.pipeline`.
    """
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    side = load.size // backbone.pipeline.vae_scale_factor
    backbone.unet.register_to_config(sample_size=side)
    if load.gradient_checkpointing:
        backbone.unet.enable_gradient_checkpointing()
    if fused is None:
        fused = backbone.device.type == "cuda" or side > SMALL_MAP
    backbone.unet.set_attn_processor(AttnProcessor2_0() if fused else AttnProcessor())


def train(backbone: Backbone, name: str, load: Load, build: Build) -> int:
    """Do one step of `bench.training.loop.fit` without reading any value. Returns the number of trained weights."""
    made = method(name, load)
    place = harness(backbone, made.config.batch_size)
    with place.trainable(made.trains):
        parameters = list(place.trained.values())
        made.prepare(place)
        optimizer = build(made, parameters)
        if made.config.ema_decay is not None:
            place.average_weights = {n: p.detach().clone() for n, p in place.trained.items()}
        for batch in place.forget_batches(made.config.batch_size):
            made.loss(place, batch).backward()
        made.after_backward(place)
        if made.config.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, made.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(p.numel() for p in parameters)


def real_optimizer(made: Method, parameters: list[torch.nn.Parameter]) -> Optimizer:
    """The optimiser that the method's config names."""
    config = made.config
    device = parameters[0].device
    return optimizers.build(config.optimizer, parameters, config.lr, config.weight_decay, device)


@torch.inference_mode()
def draw(backbone: Backbone, load: Load) -> None:
    """One guided sampling step with both halves of the batch at once, as in `bench.backbones.sampler.denoise`."""
    count = 2 * load.images
    latents = torch.zeros(count, *backbone.latent_shape, device=backbone.device)
    embeds = backbone.embed(["", "a photo"] * load.images)
    backbone.frozen(backbone.unet)(latents, torch.tensor(500, device=backbone.device), embeds)


def look(backbone: Backbone, load: Load) -> None:
    """Decode a batch of latents."""
    decode(backbone, torch.zeros(load.images, *backbone.latent_shape, device=backbone.device), [""] * load.images)
