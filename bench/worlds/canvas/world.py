"""The canvas world: UnlearnCanvas (Zhang et al., NeurIPS 2024), 50 painted styles of 20 objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.core import digest
from bench.core.config import Protocol
from bench.core.filenames import without_folders
from bench.core.task import Task
from bench.worlds import contrastive, inception, pictures
from bench.worlds.base import Clip, Judge, Options, Split, World, WorldUnavailable
from bench.worlds.canvas import dataset, judges
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, SEEDS, STYLES, prompt
from bench.worlds.text_closeness import TextCloseness

if TYPE_CHECKING:
    from rich.console import Console

SIDE = 512  # pixels, the size of Stable Diffusion's images
NEEDS_DATA = "the world 'canvas' needs UnlearnCanvas's data set and classifiers: --data DIR"
NEEDS_BACKBONE = (
    "the world 'canvas' has no backbone of its own: give UnlearnCanvas's fine-tuned Stable Diffusion with --backbone "
    "DIR, a diffusers folder (its release is linked from github.com/OPTML-Group/UnlearnCanvas); the stock model does "
    "not know these styles by name"
)
# The sentences that methods learn from. They differ from UnlearnCanvas's, which the evaluation uses.
FORGET = ("{object} painted in {style} style", "a picture of {object}, {style} style")
PHOTO = "Photo"  # the style by which the fine-tuned model knows photographs


class Data:
    """The data set and the classifiers of UnlearnCanvas, and the text encoder that measures closeness.

    Args:
        folder: of the data set.
        options: the user's options.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.closeness = TextCloseness(options.backbone, sentence)
        self.files: Callable[[str, int], tuple[Path, ...]] = cache(
            lambda concept, count: dataset.reference(folder, concept, count)
        )
        self.judge: Callable[[str, torch.device], Judge] = cache(self._judge)

    def _judge(self, name: str, device: torch.device) -> Judge:
        kind: judges.Kind = "style" if name == "style" else "object"
        return judges.load(judges.locate(self.folder, kind), kind, device)


class Canvas(World):
    """The canvas world.

    Args:
        options: the user's options. None: there is no data yet, and whatever needs data raises WorldUnavailable.

    Raises ValueError for options that the world does not take, WorldUnavailable for options without a data folder.
    """

    name = "canvas"
    about = "UnlearnCanvas: 50 painted styles of 20 objects, for its own Stable Diffusion; needs --data, and a GPU"
    domains: Mapping[str, tuple[str, ...]] = {"objects": OBJECTS}
    styles = (SEED_IMAGES, *STYLES)
    protocol = Protocol(
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
    )
    extra_concepts = (SEED_IMAGES,)
    feature_hint = inception.HINT
    needs_data = True

    def __init__(self, options: Options | None = None) -> None:
        self._data: Data | None = None
        if options is None:
            return
        if options.judges or options.neighbours:
            flag = "--judge" if options.judges else "--neighbours"
            said = f"the world 'canvas' takes no {flag}: its protocol has its own classifiers and keeps them all"
            raise ValueError(said)
        if options.data is None:
            raise WorldUnavailable(NEEDS_DATA)
        self._data = Data(options.data, options)
        self.chosen = {"CLIP": without_folders(options.clip or contrastive.USUAL, model=True)}

    @property
    def data(self) -> Data:
        """The data set and the classifiers. Raises WorldUnavailable before the world is configured."""
        if self._data is None:
            raise WorldUnavailable(NEEDS_DATA)
        return self._data

    def configure(self, options: Options) -> Canvas:
        """The canvas world with a folder of data. Raises ValueError, WorldUnavailable."""
        return type(self)(options)

    def backbone(self) -> str:
        """Raises WorldUnavailable: UnlearnCanvas's model can't be downloaded by name."""
        raise WorldUnavailable(NEEDS_BACKBONE)

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """A style with each object, or an object in each style.

        The evaluation prompts are those of the published answer set. For an object they include "Seed Images style",
        whose images are drawn and judged, but count only for UnlearnCanvas's own metrics. The other split has Lethe's
        own sentences.
        """
        if split == "evaluate":
            if concept in OBJECTS:
                return tuple(prompt(style, concept) for style in (*STYLES, SEED_IMAGES))
            return tuple(prompt(concept, object) for object in OBJECTS)
        pairs = [(style, concept) for style in STYLES] if concept in OBJECTS else [(concept, o) for o in OBJECTS]
        return tuple(forget_sentence(style, object, i) for i, (style, object) in enumerate(pairs))

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The prompts of a style with photographs in its place. () for an object, and for photographs themselves.

        In both splits photographs have the style by which the model knows them.
        """
        if concept in OBJECTS or concept == SEED_IMAGES:
            return ()
        if split == "evaluate":
            return tuple(f"A {object} image in {PHOTO} style." for object in OBJECTS)
        return tuple(forget_sentence(SEED_IMAGES, object, i) for i, object in enumerate(OBJECTS))

    def bare_name(self, concept: str) -> str:
        """An object's name, or a style's as its prompts write it: "Van Gogh style"."""
        return concept if concept in OBJECTS else f"{concept.replace('_', ' ')} style"

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """The first `count` images that the published FID compares with, uint8 (count, 3, SIDE, SIDE)."""
        return torch.stack([dataset.picture(path, SIDE) for path in self.data.files(concept, count)])

    def reference_names(self, concept: str, count: int | None = None) -> tuple[str, ...]:
        """Style, object and number: "Monet/Dogs/3.jpg" is an image of both the style and the object."""
        count = dataset.IN_REFERENCE * len(self.prompts("evaluate", concept)) if count is None else count
        return tuple(path.relative_to(self.data.folder).as_posix() for path in self.data.files(concept, count))

    def reference_key(self, concept: str) -> list[tuple[str, int] | str]:
        """Name and size of each reference image, and the version of the code that reads it."""
        names = self.reference_names(concept)
        sizes = [(name, (self.data.folder / name).stat().st_size) for name in names]
        return [*sizes, f"{SIDE} pixels", digest.of_module(pictures)]

    def judge_of(self, concept: str) -> str:
        """ "object" for an object, "style" for a style."""
        return "object" if concept in OBJECTS else "style"

    def judge(self, name: str, device: torch.device) -> Judge:
        """UnlearnCanvas's classifier of styles or of objects."""
        return self.data.judge(name, device)

    def feature_weights(self) -> str | None:
        """The file of Inception's weights in the data folder; None if it is not there."""
        return inception.weights(self._data.folder if self._data else None)

    def clip(self, device: torch.device) -> Clip | None:
        """The CLIP model that the user chose; None if that is "none"."""
        return contrastive.load(self.data.options.clip, device)

    def closeness(self, a: str, b: str) -> float:
        """Cosine of one sentence about each concept under the backbone's text encoder."""
        return self.data.closeness(a, b)

    @property
    def tasks(self) -> Mapping[str, Callable[[], tuple[Task, ...]]]:
        """The requests of UnlearnCanvas: to forget a style, or to forget an object."""
        return {"style": forget_styles, "object": forget_objects}

    def prepare(self, data: Path, console: Console) -> bool:
        """Print whether the data set and the classifiers are in the folder, and where to get them.

        Nothing is downloaded, since no file has a stable link.
        """
        from bench.worlds.canvas import prepare

        return prepare.prepare(data, console)


def forget_sentence(style: str, object: str, index: int) -> str:
    """The sentence to learn from about an object in a style. The sentences of FORGET take turns by `index`."""
    words = PHOTO if style == SEED_IMAGES else style.replace("_", " ")
    return FORGET[index % len(FORGET)].format(object=object, style=words)


def sentence(concept: str) -> tuple[str, ...]:
    """One sentence about a concept alone, from which closeness is measured."""
    return (f"An image of {concept}" if concept in OBJECTS else f"An image in {concept.replace('_', ' ')} style",)


def forget_styles() -> tuple[Task, ...]:
    """The 50 requests to forget a style. Each keeps the other 49 styles, and the 20 objects."""
    return tuple(Task(s, (s,), tuple(other for other in STYLES if other != s), OBJECTS) for s in STYLES)


def forget_objects() -> tuple[Task, ...]:
    """The 20 requests to forget an object. Each keeps the other 19 objects, and the 50 styles."""
    return tuple(Task(o, (o,), tuple(other for other in OBJECTS if other != o), STYLES) for o in OBJECTS)


CANVAS = Canvas()
