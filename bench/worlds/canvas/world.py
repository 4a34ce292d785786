"""The canvas world: UnlearnCanvas (Zhang et al., NeurIPS 2024), 50 painted styles of 20 objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.core import digest
from bench.core.config import Protocol
from bench.core.contents.file_digests import FileDigests
from bench.core.filenames import without_folders
from bench.core.task import Task
from bench.worlds import contrastive, inception, pictures
from bench.worlds.base import Clip, Judge, Options, Split, World, WorldUnavailable
from bench.worlds.canvas import dataset, judges, published
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, SEEDS, STYLES, prompt
from bench.worlds.text_closeness import TextCloseness

if TYPE_CHECKING:
    from rich.console import Console

SIDE = 512  # pixels, the size of Stable Diffusion's images
NEEDS_DATA = "the world 'canvas' needs UnlearnCanvas's data set and classifiers: --data DIR"
NEEDS_BACKBONE = (
    "the world 'canvas' needs UnlearnCanvas's fine-tuned Stable Diffusion, and the data folder has no "
    f"{published.MODEL}: `run_bench.py prepare canvas` fetches it, or give a diffusers folder with --backbone DIR; the "
    "stock model does not know these styles by name"
)
# Templates of the forget prompts. They differ from UnlearnCanvas's template, which the evaluation uses.
FORGET = ("{object} painted in {style} style", "a picture of {object}, {style} style")
PHOTO = "Photo"  # the name that photographs have in the captions of the fine-tuned model


class Data:
    """The data set and the classifiers of UnlearnCanvas, and the text encoder that measures closeness.

    Args:
        folder: the folder of the data set.
        options: the user's options.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.digest_of = FileDigests(folder, options.fresh)
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
        options: the user's options. If they are None, the world has no data: everything that needs data raises
            WorldUnavailable.

    Raises ValueError for an option that the world does not take, and WorldUnavailable for options without a data
    folder.
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
        """The canvas world with the data folder of `options`. Raises ValueError and WorldUnavailable like `Canvas`."""
        return type(self)(options)

    def backbone(self) -> str:
        """The fine-tuned model in the data folder. Raises WorldUnavailable if it is not there."""
        try:
            return published.model_folder(self.data.folder)
        except WorldUnavailable:
            raise WorldUnavailable(NEEDS_BACKBONE) from None

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """The prompts of a concept: a style with each object, or an object in each style.

        The evaluation prompts are the prompts of the published answer set. For an object they include "Seed Images
        style". The images of that style are sampled and judged, but they count only for UnlearnCanvas's own metrics.
        The forget prompts follow the templates of FORGET.
        """
        if split == "evaluate":
            if concept in OBJECTS:
                return tuple(prompt(style, concept) for style in (*STYLES, SEED_IMAGES))
            return tuple(prompt(concept, object) for object in OBJECTS)
        pairs = [(style, concept) for style in STYLES] if concept in OBJECTS else [(concept, o) for o in OBJECTS]
        return tuple(forget_sentence(style, object, i) for i, (style, object) in enumerate(pairs))

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The prompts of a style with photographs in place of the style. () for an object and for photographs.

        Both splits call the style of photographs "Photo": the captions of the fine-tuned model used that name.
        """
        if concept in OBJECTS or concept == SEED_IMAGES:
            return ()
        if split == "evaluate":
            return tuple(f"A {object} image in {PHOTO} style." for object in OBJECTS)
        return tuple(forget_sentence(SEED_IMAGES, object, i) for i, object in enumerate(OBJECTS))

    def bare_name(self, concept: str) -> str:
        """The name of an object, or the name of a style as prompts write it: "Van Gogh style"."""
        return concept if concept in OBJECTS else f"{concept.replace('_', ' ')} style"

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """The first `count` reference images of the published FID, uint8 (count, 3, SIDE, SIDE)."""
        return torch.stack([dataset.picture(path, SIDE) for path in self.data.files(concept, count)])

    def reference_names(self, concept: str, count: int | None = None) -> tuple[str, ...]:
        """One id per reference image: style, object and number. "Monet/Dogs/3.jpg" shows both Monet and Dogs.

        If `count` is None, all reference images of the concept.
        """
        count = dataset.IN_REFERENCE * len(self.prompts("evaluate", concept)) if count is None else count
        return tuple(path.relative_to(self.data.folder).as_posix() for path in self.data.files(concept, count))

    def reference_key(self, concept: str, count: int | None = None) -> list[tuple[str, str] | str]:
        """The name and digest of each reference image, and the version of the code that reads the images.

        If `count` is None, of all reference images. Raises OSError if an image can't be read.
        """
        names = self.reference_names(concept, count)
        files = [(name, self.data.digest_of(self.data.folder / name)) for name in names]
        return [*files, f"{SIDE} pixels", digest.of_module(pictures)]

    def judge_of(self, concept: str) -> str:
        """ "object" for an object, "style" for a style."""
        return "object" if concept in OBJECTS else "style"

    def judge(self, name: str, device: torch.device) -> Judge:
        """UnlearnCanvas's classifier of styles ("style") or of objects ("object")."""
        return self.data.judge(name, device)

    def feature_weights(self) -> str | None:
        """The file of Inception's weights in the data folder, or None if the folder has no such file."""
        return inception.weights(self._data.folder if self._data else None)

    def clip(self, device: torch.device) -> Clip | None:
        """The CLIP model that the user chose, or None if the user chose "none"."""
        return contrastive.load(self.data.options.clip, device)

    def closeness(self, a: str, b: str) -> float:
        """Cosine similarity of two concepts: the backbone's text encoder embeds one sentence about each concept."""
        return self.data.closeness(a, b)

    @property
    def tasks(self) -> Mapping[str, Callable[[], tuple[Task, ...]]]:
        """The tasks of UnlearnCanvas: to forget a style ("style"), or to forget an object ("object")."""
        return {"style": forget_styles, "object": forget_objects}

    def prepare(self, data: Path, console: Console) -> bool:
        """Download the model, the classifiers and the images that are missing in the folder, and check all of them.

        Returns True if everything is there and sound.
        """
        from bench.worlds.canvas import prepare

        return prepare.prepare(data, console)


def forget_sentence(style: str, object: str, index: int) -> str:
    """The forget prompt for an object in a style. Prompt `index` uses template `index` mod 2 of FORGET."""
    words = PHOTO if style == SEED_IMAGES else style.replace("_", " ")
    return FORGET[index % len(FORGET)].format(object=object, style=words)


def sentence(concept: str) -> tuple[str, ...]:
    """One sentence about a concept alone. The closeness of two concepts compares their sentences."""
    return (f"An image of {concept}" if concept in OBJECTS else f"An image in {concept.replace('_', ' ')} style",)


def forget_styles() -> tuple[Task, ...]:
    """The 50 tasks that forget a style. Each task keeps the other 49 styles and the 20 objects."""
    return tuple(Task(s, (s,), tuple(other for other in STYLES if other != s), OBJECTS) for s in STYLES)


def forget_objects() -> tuple[Task, ...]:
    """The 20 tasks that forget an object. Each task keeps the other 19 objects and the 50 styles."""
    return tuple(Task(o, (o,), tuple(other for other in OBJECTS if other != o), STYLES) for o in OBJECTS)


CANVAS = Canvas()
