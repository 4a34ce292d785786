"""The natural world: photographs of 120 dogs, 102 flowers and 200 birds, for Stable Diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.core import device as devices
from bench.core import digest
from bench.core.config import Protocol
from bench.core.contents.file_digests import FOLDER, FileDigests
from bench.core.filenames import without_folders
from bench.core.task import Task
from bench.worlds import contrastive, inception, models, pictures
from bench.worlds.base import Clip, Distance, Judge, Options, Split, World, WorldUnavailable
from bench.worlds.natural import captions, tasks
from bench.worlds.natural.judges import choice
from bench.worlds.natural.judges.likeness import PER_CLASS, Likeness
from bench.worlds.natural.photographs import reader
from bench.worlds.natural.photographs.reader import LABELS, Photographs
from bench.worlds.text_closeness import TextCloseness

if TYPE_CHECKING:
    from rich.console import Console

SIDE = 512  # pixels, the size of Stable Diffusion's images
NEEDS_DATA = (
    "the world 'natural' needs its photographs: --data DIR, the folder that "
    "`python run_bench.py prepare natural --data DIR` fills"
)


class Photos:
    """The photographs and the judges of the natural world. Each is read or loaded at its first use.

    Args:
        options: the user's options.

    Raises ValueError for an unknown judge or an invalid number of neighbours. Raises WorldUnavailable if the options
    name no data folder.
    """

    def __init__(self, options: Options) -> None:
        if options.data is None:
            raise WorldUnavailable(NEEDS_DATA)
        self.data, self.options = options.data, options
        self.specs = choice.choose(options.judges)
        self.count = tasks.neighbours(options.neighbours)
        self.digest_of = FileDigests(self.data, options.fresh)
        self.closeness = TextCloseness(options.backbone, partial(captions.prompts, "evaluate"))
        device = devices.default_device()
        self.read = cache(lambda domain: reader.read(domain, self.data))
        self.judge: Callable[[str, torch.device], Judge] = cache(
            lambda domain, device: choice.load(domain, self.specs[domain], self.data, device)
        )
        self.alike = {
            domain: Likeness(
                partial(self.read, domain), partial(self.judge, domain, device), self.data / FOLDER, self.digest_of
            )
            for domain in LABELS
        }

    def nearest(self, concept: str) -> tuple[str, ...]:
        """The other concepts of the domain, sorted by similarity to `concept` under the judge, most similar first."""
        return self.alike[captions.DOMAIN_OF[concept]].nearest(concept)

    def judge_distance(self, a: str, b: str) -> float | None:
        """1 - cosine of the mean judge features of two concepts, in [0, 2]. None if the concepts' domains differ."""
        domain = captions.DOMAIN_OF[a]
        return 1 - self.alike[domain](a, b) if domain == captions.DOMAIN_OF[b] else None

    def chosen(self) -> dict[str, str]:
        """A description of the judges, the neighbours and the CLIP model for the reports."""
        which = "all of the domain"
        if self.count is not None:
            which = f"the {self.count} most alike to the judge, over {PER_CLASS} training pictures of each"
        clip = {"CLIP": without_folders(self.options.clip or contrastive.USUAL, model=True)}
        named = {f"judge of {d}": without_folders(spec) for d, spec in self.specs.items()}
        return {**named, "neighbours": which, **clip}


class Natural(World):
    """The natural world.

    Args:
        options: the user's options. With None the world has no data, and methods that need data raise
            WorldUnavailable.

    Raises the same errors as `Photos`.
    """

    name = "natural"
    about = "photographs of 422 dogs, flowers and birds, for Stable Diffusion; needs --data, and a GPU"
    domains = LABELS
    styles = ()  # all of its prompts ask for photographs
    protocol = Protocol(
        images_per_concept=10,
        forget_images=100,
        retain_images=4,
        num_inference_steps=25,
        guidance_scale=7.5,
        reference_per_concept=10,  # every class of CUB-200 has at least eleven test images
    )
    feature_hint = inception.HINT
    needs_data = True

    def __init__(self, options: Options | None = None) -> None:
        self._photos = Photos(options) if options is not None else None
        if self._photos is not None:
            self.chosen = self._photos.chosen()

    @property
    def photos(self) -> Photos:
        """The photographs and the judges. Raises WorldUnavailable if the world has no options yet."""
        if self._photos is None:
            raise WorldUnavailable(NEEDS_DATA)
        return self._photos

    def configure(self, options: Options) -> Natural:
        """A natural world with these options. Raises the same errors as `Photos`."""
        return type(self)(options)

    def backbone(self) -> str:
        """The name of the default backbone, Stable Diffusion 1.5."""
        return "sd15"

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """The prompts for a concept. Each contains the concept and its kind: "a photo of a beagle dog"."""
        return captions.prompts(split, concept)

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The same prompts with only the kind: "a photo of a dog"."""
        return captions.superclass_prompts(concept, split)

    def bare_name(self, concept: str) -> str:
        """The concept's name, followed by its kind: "beagle dog"."""
        return captions.phrase(concept)

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """The first `count` test photographs of a concept, uint8 (count, 3, SIDE, SIDE)."""
        photos, label = self._photographs(concept)
        return reader.reference(photos, label, count, SIDE)

    def reference_key(self, concept: str, count: int | None = None) -> list[tuple[str, str] | str]:
        """The cache key of a concept's first `count` reference images. If `count` is None, of all of them.

        The key contains the file name and the digest of each photograph, the side in pixels, and the version of the
        code that reads images. Raises OSError if a photograph can't be read.
        """
        photos, label = self._photographs(concept)
        chosen = [path for path, of in photos.test if of == label][:count]
        files = [(path.name, self.photos.digest_of(path)) for path in chosen]
        return [*files, f"{SIDE} pixels", digest.of_module(pictures)]

    def _photographs(self, concept: str) -> tuple[Photographs, int]:
        """The photographs of the concept's domain, and the index of the concept in their labels."""
        photos: Photographs = self.photos.read(captions.DOMAIN_OF[concept])
        return photos, photos.labels.index(concept)

    def judge_of(self, concept: str) -> str:
        """The concept's domain, because each domain has one judge. Raises KeyError for an unknown concept."""
        return captions.DOMAIN_OF[concept]

    def judge(self, name: str, device: torch.device) -> Judge:
        """The judge of the domain `name`, on `device`. Raises the same errors as `choice.load`."""
        return self.photos.judge(name, device)

    def feature_weights(self) -> str | None:
        """The path of Inception's weights in the data folder. None if the file is missing."""
        return inception.weights(self._photos.data if self._photos else None)

    def clip(self, device: torch.device) -> Clip | None:
        """The CLIP model that the user chose. None if the user chose "none"."""
        return contrastive.load(self.photos.options.clip, device)

    def closeness(self, a: str, b: str) -> float:
        """Mean cosine similarity of two concepts' evaluation prompts under the backbone's text encoder."""
        return self.photos.closeness(a, b)

    @property
    def other_distances(self) -> Mapping[str, Distance]:
        """The distance "judge": it compares the judge's features of two concepts' training photographs.

        The distance exists only for two concepts of the same domain.
        """
        return {"judge": lambda a, b: self.photos.judge_distance(a, b)}

    @property
    def tasks(self) -> Mapping[str, Callable[[], tuple[Task, ...]]]:
        """The suite "finegrained": a target's neighbours are the concepts most similar to it under the judge."""
        return {"finegrained": lambda: tasks.finegrained(LABELS, self.photos.nearest, self.photos.count)}

    def single_task(self, concept: str) -> Task:
        """The task of forgetting one concept. It keeps concepts by the rule of the suite "finegrained"."""
        return tasks.single_task(concept, LABELS, self.photos.nearest, self.photos.count)

    def prepare(self, data: Path, console: Console) -> bool:
        """Download and check the photographs, and print a table of the models with where each is or how to get it.

        Returns True if the photographs of all domains can be read.
        """
        from bench.worlds.natural.photographs import prepare  # imports rich; listing worlds doesn't need it

        ready = prepare.prepare(data, console)
        models.show([*needs(data)], console)
        return ready


def needs(data: Path) -> Iterator[models.Need]:
    """The models that the default options need in addition to the photographs."""
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


NATURAL = Natural()
