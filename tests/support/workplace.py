"""Methods at work on the tiny world: the smallest training that is still training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from bench.backbones.pipeline import Backbone
from bench.core.task import Task
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.worlds import World
from methods import METHODS, Method


def small(name: str, **settings: object) -> Method:
    """The method called `name` with a config that takes a second, and `settings` on top."""
    cls = METHODS.get(name)
    values = {"lr": 1e-3, "epochs": 1, "steps": None, "batch_size": 4, "path_steps": 2}
    known = {field.name for field in dataclasses.fields(cls.Config)}
    return cls(dataclasses.replace(cls.Config(), **{k: v for k, v in values.items() if k in known} | settings))


def harnesses(world: World, model: Backbone) -> Callable[..., Harness]:
    """(seed, further arguments of a harness) -> a harness for four concepts of `world`, on random latents."""
    names = world.concepts[:4]
    task = Task("t", names[:1], names[1:3], names[3:])
    generator = torch.Generator().manual_seed(5)
    examples = LatentSet(torch.randn(8, *model.latent_shape, generator=generator), names[:1] * 8, (0, 1) * 4)
    kept = LatentSet(torch.randn(6, *model.latent_shape, generator=generator), names[1:] * 2, (0,) * 6)
    prompts = {name: world.prompts("forget", name) for name in names}
    rest = {names[0]: tuple(prompt.replace(names[0], "dog") for prompt in prompts[names[0]])}
    words = {name: world.bare_name(name) for name in names}
    return lambda seed, **more: Harness(
        model, task, examples, lambda: kept, prompts, seed, superclass_prompts=rest, words=words, **more
    )


@dataclasses.dataclass(frozen=True)
class NetworkCopies:
    """Separate copies of the networks of a harness."""

    student: torch.nn.Module
    teacher: torch.nn.Module
    average: torch.nn.Module


@contextmanager
def midway(harness: Harness, method: Method) -> Iterator[NetworkCopies]:
    """The harness in the middle of a training: student and average differ from the teacher."""
    generator, copies = torch.Generator().manual_seed(7), {"teacher": copy.deepcopy(harness.unet)}
    with harness.trainable(method.trains):
        for name in ("average", "student"):
            with torch.no_grad():
                for parameter in harness.trained.values():
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.3 * parameter.std(correction=0) * noise)
            if name == "average":
                harness.average_weights = {n: p.detach().clone() for n, p in harness.trained.items()}
            copies[name] = copy.deepcopy(harness.unet)
        yield NetworkCopies(**copies)
