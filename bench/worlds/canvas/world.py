"""The canvas world: UnlearnCanvas (Zhang et al., NeurIPS 2024), 50 painted styles of 20 objects."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch

from bench.core import digest
from bench.core.config import Protocol
from bench.core.filenames import without_folders
from bench.core.task import Task
from bench.worlds import contrastive, inception, pictures
from bench.worlds.base import Judge, Options, Split, World, WorldUnavailable
from bench.worlds.canvas import dataset, judges
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, SEEDS, STYLES, prompt
from bench.worlds.text_closeness import TextCloseness

if TYPE_CHECKING:
    from rich.console import Console

SIDE = 512
NEEDS_DATA = "the world 'canvas' needs UnlearnCanvas's data set and classifiers: --data DIR"
NEEDS_BACKBONE = (
    "the world 'canvas' has no backbone of its own: give UnlearnCanvas's fine-tuned Stable Diffusion with --backbone "
    "DIR, a diffusers folder (its release is linked from github.com/OPTML-Group/UnlearnCanvas); the stock model does "
    "not know these styles by name"
)
# What methods learn from: other sentences than those that UnlearnCanvas judges by
FORGET = ("{object} painted in {style} style", "a picture of {object}, {style} style")
PHOTO = "Photo"  # the style that the fine-tuned model knows photographs by


def prompts(split: Split, concept: str) -> tuple[str, ...]:
    """A style with each object, or an object in each style.

    To be judged by, those of the published answer set: of an object also "Seed Images style", which is drawn and
    judged, but counts by the published reading alone. To forget with, sentences of Lethe's own.
    """
    if split == "evaluate":
        if concept in OBJECTS:
            return tuple(prompt(style, concept) for style in (*STYLES, SEED_IMAGES))
        return tuple(prompt(concept, object) for object in OBJECTS)
    pairs = [(style, concept) for style in STYLES] if concept in OBJECTS else [(concept, o) for o in OBJECTS]
    return tuple(forgetting(style, object, i) for i, (style, object) in enumerate(pairs))


def forgetting(style: str, object: str, index: int) -> str:
    """The sentence to forget with of an object in a style, by turns in the words of FORGET."""
    words = PHOTO if style == SEED_IMAGES else style.replace("_", " ")
    return FORGET[index % len(FORGET)].format(object=object, style=words)


def superclass_prompts(concept: str, split: Split = "forget") -> tuple[str, ...]:
    """A style's sentences, of photographs; () for an object, which has no broader word, and for these.

    In both splits photographs go by the style that the model knows them by.
    """
    if concept in OBJECTS or concept == SEED_IMAGES:
        return ()
    if split == "evaluate":
        return tuple(f"A {object} image in {PHOTO} style." for object in OBJECTS)
    return tuple(forgetting(SEED_IMAGES, object, i) for i, object in enumerate(OBJECTS))


def bare_name(concept: str) -> str:
    """An object's name, or a style's in the words of its prompts: "Van Gogh style"."""
    return concept if concept in OBJECTS else f"{concept.replace('_', ' ')} style"


def words(concept: str) -> tuple[str, ...]:
    """One sentence about a concept alone, to say what is close to what."""
    return (f"An image of {concept}" if concept in OBJECTS else f"An image in {concept.replace('_', ' ')} style",)


def forget_styles() -> tuple[Task, ...]:
    """The 50 requests to forget a style: kept are the other 49, and the 20 objects."""
    return tuple(Task(s, (s,), tuple(other for other in STYLES if other != s), OBJECTS) for s in STYLES)


def forget_objects() -> tuple[Task, ...]:
    """The 20 requests to forget an object: kept are the other 19, and the 50 styles."""
    return tuple(Task(o, (o,), tuple(other for other in OBJECTS if other != o), STYLES) for o in OBJECTS)


def configure(options: Options) -> World:
    """The canvas world on a folder of data. Raises ValueError for options it does not take, WorldUnavailable."""
    if options.judges or options.neighbours:
        flag = "--judge" if options.judges else "--neighbours"
        raise ValueError(f"the world 'canvas' takes no {flag}: its protocol has its own classifiers and keeps them all")
    data = options.data
    if data is None:
        raise WorldUnavailable(NEEDS_DATA)

    @cache
    def files(concept: str, count: int) -> tuple[Path, ...]:
        return dataset.reference(data, concept, count)

    def reference(concept: str, count: int) -> torch.Tensor:
        return torch.stack([dataset.picture(path, SIDE) for path in files(concept, count)])

    def names(concept: str, count: int | None = None) -> tuple[str, ...]:
        """Style, object and number, "Monet/Dogs/3.jpg": a picture of the one is a picture of the other."""
        count = dataset.IN_REFERENCE * len(prompts("evaluate", concept)) if count is None else count
        return tuple(path.relative_to(data).as_posix() for path in files(concept, count))

    def key(concept: str) -> list[tuple[str, int] | str]:
        """Name and size of each file, and how they are read."""
        found = [(name, (data / name).stat().st_size) for name in names(concept)]
        return [*found, f"{SIDE} pixels", digest.of_module(pictures)]

    @cache
    def judge(name: str, device: torch.device) -> Judge:
        kind: judges.Kind = "style" if name == "style" else "object"
        return judges.load(judges.locate(data, kind), kind, device)

    return dataclasses.replace(
        CANVAS,
        reference=reference,
        reference_names=names,
        reference_key=key,
        judge=judge,
        closeness=TextCloseness(options.backbone, words),
        feature_weights=lambda: inception.weights(data),
        clip=contrastive.loader(options.clip),
        chosen={"CLIP": without_folders(options.clip or contrastive.USUAL, model=True)},
    )


def prepare(data: Path, console: Console) -> bool:
    """Say whether the data set and the classifiers are in the folder, and where each is had: none has a stable link."""
    from bench.worlds.canvas import prepare as room

    return room.prepare(data, console)


def no_backbone() -> NoReturn:
    """There is none that can be downloaded by name."""
    raise WorldUnavailable(NEEDS_BACKBONE)


def unprepared(*args: object) -> NoReturn:
    """In place of what a data folder is needed for."""
    raise WorldUnavailable(NEEDS_DATA)


CANVAS = World(
    name="canvas",
    about="UnlearnCanvas: 50 painted styles of 20 objects, for its own Stable Diffusion; needs --data, and a GPU",
    domains={"objects": OBJECTS},
    styles=(SEED_IMAGES, *STYLES),
    protocol=Protocol(
        images_per_concept=None,
        images_per_prompt=len(SEEDS),
        noise_seeds=SEEDS,
        reference_per_concept=None,
        reference_per_prompt=dataset.IN_REFERENCE,
        forget_images=100,
        retain_images=4,
        scheduler="ddim",
        num_inference_steps=100,
        guidance_scale=9.0,
    ),
    backbone=no_backbone,
    prompts=prompts,
    reference=unprepared,
    extra_concepts=(SEED_IMAGES,),
    judge=unprepared,
    judge_of=lambda concept: "object" if concept in OBJECTS else "style",
    closeness=unprepared,
    feature_extractor=lambda: inception.NAME,
    feature_hint=inception.HINT,
    superclass_prompts=superclass_prompts,
    bare_name=bare_name,
    tasks={"style": forget_styles, "object": forget_objects},
    configure=configure,
    prepare=prepare,
)
