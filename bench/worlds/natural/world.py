"""The natural world: photographs of 120 dogs, 102 flowers and 200 birds, for Stable Diffusion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch

from bench.core import device as devices
from bench.core import digest
from bench.core.config import Protocol
from bench.core.filenames import without_folders
from bench.core.task import Task
from bench.worlds import contrastive, inception, models, pictures
from bench.worlds.base import Judge, Options, World, WorldUnavailable
from bench.worlds.natural import captions, tasks
from bench.worlds.natural.judges import choice
from bench.worlds.natural.judges.likeness import PER_CLASS, Likeness
from bench.worlds.natural.photographs import reader
from bench.worlds.natural.photographs.reader import LABELS, Photographs
from bench.worlds.text_closeness import TextCloseness

if TYPE_CHECKING:
    from rich.console import Console

SIDE = 512  # pixels, of Stable Diffusion's own pictures
CACHE = "lethe"  # in the data folder: what is computed of it once


class Photos:
    """The world's data and judges, each read or loaded when first asked for.

    Args:
        options: as the user gives them; `data` must be there.

    Raises ValueError for judges or neighbours that make no sense, WorldUnavailable without a data folder.
    """

    def __init__(self, options: Options) -> None:
        if options.data is None:
            raise WorldUnavailable(NEEDS_DATA)
        self.data, self.options = options.data, options
        self.specs = choice.choose(options.judges)
        self.count = tasks.neighbours(options.neighbours)
        device = devices.default_device()
        self.read = cache(lambda domain: reader.read(domain, self.data))
        self.judge: Callable[[str, torch.device], Judge] = cache(
            lambda domain, device: choice.load(domain, self.specs[domain], self.data, device)
        )
        self.alike = {
            domain: Likeness(partial(self.read, domain), partial(self.judge, domain, device), self.data / CACHE)
            for domain in LABELS
        }

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """The first `count` test pictures of a concept, uint8 (count, 3, SIDE, SIDE)."""
        photos: Photographs = self.read(captions.DOMAIN_OF[concept])
        return reader.reference(photos, photos.labels.index(concept), count, SIDE)

    def files(self, concept: str) -> list[tuple[str, int] | str]:
        """Name and size of each test picture of a concept, and how they are read."""
        photos: Photographs = self.read(captions.DOMAIN_OF[concept])
        label = photos.labels.index(concept)
        found = [(path.name, path.stat().st_size) for path, of in photos.test if of == label]
        return [*found, f"{SIDE} pixels", digest.of_module(pictures)]

    def nearest(self, concept: str) -> tuple[str, ...]:
        """The others of its domain, those first that look most alike to its judge."""
        return self.alike[captions.DOMAIN_OF[concept]].nearest(concept)

    def unlikeness(self, a: str, b: str) -> float | None:
        """1 - cosine of two concepts' mean judge features; None between domains."""
        domain = captions.DOMAIN_OF[a]
        return 1 - self.alike[domain](a, b) if domain == captions.DOMAIN_OF[b] else None

    def finegrained(self) -> tuple[Task, ...]:
        """The tasks of the suite."""
        return tasks.finegrained(LABELS, self.nearest, self.count)

    def single_task(self, concept: str) -> Task:
        """The task of forgetting one concept."""
        return tasks.single_task(concept, LABELS, self.nearest, self.count)

    def chosen(self) -> dict[str, str]:
        """What was chosen, for people."""
        which = "all of the domain"
        if self.count is not None:
            which = f"the {self.count} most alike to the judge, over {PER_CLASS} training pictures of each"
        clip = {"CLIP": without_folders(self.options.clip or contrastive.USUAL, model=True)}
        named = {f"judge of {d}": without_folders(spec) for d, spec in self.specs.items()}
        return {**named, "neighbours": which, **clip}


NEEDS_DATA = (
    "the world 'natural' needs its photographs: --data DIR, the folder that "
    "`python run_bench.py prepare natural --data DIR` fills"
)


def configure(options: Options) -> World:
    """The natural world on a folder of data."""
    photos = Photos(options)
    return dataclasses.replace(
        NATURAL,
        reference=photos.reference,
        reference_key=photos.files,
        judge=photos.judge,
        closeness=TextCloseness(options.backbone, partial(captions.prompts, "evaluate")),
        other_distances={"judge": photos.unlikeness},
        feature_weights=lambda: inception.weights(options.data),
        clip=contrastive.loader(options.clip),
        tasks={"finegrained": photos.finegrained},
        single_task=photos.single_task,
        chosen=photos.chosen(),
    )


def prepare(data: Path, console: Console) -> bool:
    """Get and check the photographs; say which weights are there and how the others come."""
    from bench.worlds.natural.photographs import prepare as room  # rich's progress bars; lists need none of them

    ready = room.prepare(data, console)
    models.show([*needs(data)], console)
    return ready


def needs(data: Path) -> Iterator[models.Need]:
    """What the world's usual choices need besides photographs."""
    repository = f"timm/{choice.IMAGENET}"
    yield models.on_hub("judge of dogs", repository, ("model.safetensors",), "350 MB")
    for domain in LABELS:
        if choice.default(domain) == choice.TRAINED:
            file = choice.trained_file(domain, data)
            how = f"python -m bench.worlds.natural.judges.train --domain {domain} --data {data}"
            yield models.Need(f"judge of {domain}", file.is_file(), str(file) if file.is_file() else how)
    yield models.features(data)
    files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    yield models.on_hub("CLIP, for CLIP score", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", files, "600 MB")


def unprepared(*args: object) -> NoReturn:
    """In place of what a data folder is needed for."""
    raise WorldUnavailable(NEEDS_DATA)


NATURAL = World(
    name="natural",
    about="photographs of 422 dogs, flowers and birds, for Stable Diffusion; needs --data, and a GPU",
    domains=LABELS,
    styles=("photo",),
    protocol=Protocol(
        images_per_concept=10,
        forget_images=100,
        retain_images=4,
        num_inference_steps=25,
        guidance_scale=7.5,
        reference_per_concept=10,  # the rarest of CUB-200's birds has eleven test pictures
    ),
    backbone=lambda: "sd15",
    prompts=captions.prompts,
    reference=unprepared,
    judge=unprepared,
    judge_of=captions.DOMAIN_OF.__getitem__,
    closeness=unprepared,
    feature_extractor=lambda: inception.NAME,
    feature_hint=inception.HINT,
    superclass_prompts=captions.superclass_prompts,
    bare_name=captions.phrase,
    tasks={"finegrained": unprepared},
    configure=configure,
    prepare=prepare,
)
