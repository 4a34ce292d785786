"""The base class of worlds: what can be drawn, how prompts ask for it, and how an image is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch

from bench.core.config import Protocol
from bench.core.task import Task
from bench.worlds import inception

if TYPE_CHECKING:
    from rich.console import Console

DISTANCE_DIGITS = 6  # text encoders differ behind the sixth digit between machines and thread counts

Split = Literal["forget", "evaluate"]
SPLITS: tuple[Split, ...] = get_args(Split)
HeadNoun = tuple[tuple[str, ...], tuple[str, ...]]  # prompts, and the concepts that the noun names
Distance = Callable[[str, str], float | None]  # (concept, other concept) -> a distance of at least 0; None: undefined


class WorldUnavailable(RuntimeError):
    """A world lacks a file or a file is damaged. The message says which file, and what the user can do."""


@dataclass(frozen=True)
class Judge:
    """A classifier that tells which concept an image shows.

    Args:
        labels: the concept of each logit.
        module: float images in [0, 1], (B, 3, H, W) -> logits, (B, len(labels)). It is in eval mode.
        head: the last layer of `module`. Its input, (B, D), is used as the features of an image.
    """

    labels: tuple[str, ...]
    module: torch.nn.Module
    head: torch.nn.Module


def classify(judge: Judge, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of uint8 images (B, 3, H, W), and the input of the judge's last layer, (B, D), in one forward pass."""
    given: list[torch.Tensor] = []
    handle = judge.head.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    try:
        logits = judge.module(images.float() / 255)
    finally:
        handle.remove()
    return logits, given[0]


@dataclass(frozen=True)
class Clip:
    """A CLIP model, as open_clip builds it.

    Args:
        model: has encode_image and encode_text, each with the argument `normalize`. It is in eval mode.
        tokenizer: captions -> token ids, int64 (B, tokens).
        normalise: float images in [0, 1], (B, 3, H, W) -> the input of encode_image.
        verified: whether the world compares the tokenizer's files with digests that it declares. If not, cache keys
            contain the token ids of the world's prompts.
    """

    model: Any  # a Module whose type would hide its two methods
    tokenizer: Callable[[list[str]], torch.Tensor]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    verified: bool = False


@dataclass(frozen=True)
class Options:
    """The user's options for a world.

    Args:
        backbone: () -> folder of the pipeline, whose text encoder measures closeness. The first call may download it.
        data: folder of the world's data sets.
        judges: which judges to use, in the world's own notation. (): the world's default judges.
        neighbours: number of neighbours that a task keeps, or "all". None: the world's default number.
        clip: name of the CLIP model for CLIP score, or "none". None: the world's default model.
        fresh: whether to read the contents of all files again, and to use no digest that is kept on disk.
    """

    backbone: Callable[[], Path]
    data: Path | None = None
    judges: tuple[str, ...] = ()
    neighbours: str | None = None
    clip: str | None = None
    fresh: bool = False

    def flags(self) -> tuple[str, ...]:
        """The command-line flags of the options that the user gave, the backbone's excepted."""
        given = {"--data": self.data, "--judge": self.judges, "--neighbours": self.neighbours, "--clip": self.clip}
        return tuple(flag for flag, value in given.items() if value)


class World(ABC):
    """A set of concepts, the prompts that ask for them, and the judges that recognise them.

    A subclass sets the attributes `name`, `about`, `domains` and `protocol` and defines the abstract methods. All other
    attributes and methods have defaults. `docs/add-a-world.md` shows a whole world in one file.

    A registered world is an instance. Creating it must be cheap: `ls worlds` creates every world, and loads no data and
    no model. Methods that need data may raise WorldUnavailable until `configure` has returned a world with the data.

    Attributes:
        name: the name for `--world`, which is also in the names of boards.
        about: one line for `ls worlds`.
        domains: domain -> its concepts. The concepts of one domain are each other's neighbours.
        styles: ways of drawing any concept. The first is the plain style. A style can be forgotten, as a concept can.
        protocol: how images are sampled, and how many, with the default backbone.
        presets: method -> settings that suit the default backbone, where the paper's settings do not.
        tuning_concepts: concepts that presets were tuned on. No suite of a board forgets them.
        requested: concepts that suites forget if the user names none; (): the suite's own choice.
        extra_concepts: concepts and styles that are drawn and judged besides those of each task, for a published metric
            that counts them. No suite forgets them and no other metric counts them. An image that asks for one of them
            counts for no other concept.
        feature_hint: end of the message that is shown when the feature extractor's weights can't be loaded.
        verifies_backbone: whether `backbone` compares every file with a digest of files that are known to be sound. If
            not, every tensor is compared with the networks before a run.
        captions: prompts of any scenes, for general quality: the metrics `caption_clip` and `caption_fid`.
        reference_from_model: whether images of the untouched model, on noise of their own, stand for the reference
            images of a concept that has none. If not, its FID and KID stay blank.
        drawn_from: share of the untouched model's images of a concept that its judge must recognise, 0 to 1. Otherwise
            the model does not draw the concept, and no figure counts it. None: every concept counts.
        oracle_concepts: concepts for which an oracle can be built.
        oracle_hint: how a user can get an oracle.
        needs_data: whether the world needs a folder of data, which `prepare` fills.
        files: files and folders that the world reads and whose contents no cache key has otherwise. Keys have prompts,
            tasks, distances, reference images, and the weights of judges by value; a judge may also read a table.
        chosen: description -> choice, for the reports: the judges and models that the user's options led to.

    Example:
        >>> from bench.worlds import WORLDS
        >>> world = WORLDS.get("pocket")
        >>> world.domain_of("tulip"), len(world.domain_members("tulip"))
        ('flower', 8)
        >>> world.prompts("evaluate", "tulip")[0]
        'a photo showing the tulip'
        >>> world.superclass_prompts("tulip", "evaluate")[0]
        'a photo showing the flower'
        >>> world.reference("tulip", 2).shape
        torch.Size([2, 3, 64, 64])
    """

    name: str
    about: str
    domains: Mapping[str, tuple[str, ...]]
    protocol: Protocol
    styles: tuple[str, ...] = ("photo",)
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    tuning_concepts: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    extra_concepts: tuple[str, ...] = ()
    feature_hint: str = ""
    verifies_backbone: bool = False
    captions: tuple[str, ...] = ()
    reference_from_model: bool = False
    drawn_from: float | None = None
    oracle_concepts: tuple[str, ...] = ()
    oracle_hint: str = ""
    needs_data: ClassVar[bool] = False
    files: tuple[str | Path, ...] = ()
    chosen: Mapping[str, str] = MappingProxyType({})

    # What every world defines

    @abstractmethod
    def backbone(self) -> str:
        """The default backbone, as `--backbone` would name it. Raises WorldUnavailable."""

    @abstractmethod
    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """Prompts that ask for a concept, or for some concepts in a style.

        The i-th prompts of two concepts differ only in the name of the concept, and those of two styles only in the
        style. The splits "forget" and "evaluate" share no template.
        """

    @abstractmethod
    def reference(self, concept: str, count: int) -> torch.Tensor:
        """Real images of a concept or style, uint8 (count, 3, H, W), which no model or judge was trained on.

        The first n images do not depend on `count`. Raises WorldUnavailable if there are fewer images.
        """

    @abstractmethod
    def judge(self, name: str, device: torch.device) -> Judge:
        """The judge called `name`, one of the names that `judge_of` returns, on a device. Raises WorldUnavailable."""

    @abstractmethod
    def closeness(self, a: str, b: str) -> float:
        """Similarity of two concepts, or of two styles, to the text encoder: at most 1, and 1 for a concept and itself.

        Raises WorldUnavailable.
        """

    # How images are judged

    def judge_of(self, concept: str) -> str:
        """Name of the judge that knows a concept or style. Default: its domain, or "style"."""
        return "style" if concept in self.styles else self.domain_of(concept)

    def feature_extractor(self) -> str:
        """torch-fidelity's name of the feature extractor for FID and KID. Default: Inception v3."""
        return inception.NAME

    def feature_weights(self) -> str | None:
        """File of the feature extractor's weights. None, the default: torch-fidelity finds or downloads them."""
        return None

    def clip(self, device: torch.device) -> Clip | None:
        """The model for CLIP score. None, the default: CLIP score stays blank. Raises WorldUnavailable."""
        return None

    def caption_reference(self) -> torch.Tensor | None:
        """Real images for FID over `captions`, uint8 (R, 3, H, W).

        None, the default: other images of the untouched model for the same captions stand for them.
        """
        return None

    def caption_reference_key(self) -> Any:
        """JSON data that changes whenever an image of `caption_reference` changes; None for no such images."""
        return None

    def reference_names(self, concept: str, count: int | None) -> tuple[str, ...] | None:
        """One id for each of the first `count` reference images, so that images of two concepts are counted once.

        `count=None` means all images. None, the default: concepts share no image.
        """
        return None

    def reference_key(self, concept: str, count: int | None = None) -> Any:
        """JSON data that changes whenever one of the first `count` reference images changes: digests of their files.

        `count=None` means all images. A name, a size or a time of a file is no digest: it may stay while the image
        changes. None, the default: the cache key contains the digest of the images themselves, which draws or reads
        them in every run.
        """
        return None

    # How concepts relate

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The prompts of a concept with its superclass in place of its name: "a photo of a dog" for a breed.

        For a style they have the plain style in its place. There is one for each of `prompts(split, concept)`, or ():
        the default, for a concept without a superclass. Methods that need these prompts refuse such a concept. The
        split "evaluate" is for metrics only.
        """
        return ()

    def bare_name(self, concept: str) -> str:
        """The name of a concept as a prompt of its own, as its prompts write it. Default: the concept."""
        return concept

    def headnoun(self, concept: str) -> HeadNoun | None:
        """Evaluation prompts with the concept's head noun in place of its name, and all concepts that the noun names.

        None, the default, if the noun names no other concept: ("a photo of a retriever", ...) needs two retrievers.
        """
        return None

    @property
    def other_distances(self) -> Mapping[str, Distance]:
        """Name -> a distance between concepts that does not come from the text encoder. Default: none.

        A name has letters, digits and "_" only, and becomes the column "distance_NAME".
        """
        return MappingProxyType({})

    def distances(self, a: str, b: str) -> dict[str, float]:
        """Distances between two concepts: "text" is 1 - `closeness`, and each of `other_distances` that is defined."""
        others = {name: distance(a, b) for name, distance in self.other_distances.items()}
        known = {"text": 1 - self.closeness(a, b), **{name: d for name, d in others.items() if d is not None}}
        return {name: round(d, DISTANCE_DIGITS) for name, d in known.items()}

    # What suites ask

    @property
    def tasks(self) -> Mapping[str, Callable[[], tuple[Task, ...]]]:
        """Suite -> () -> its tasks, for suites whose own rule does not suit this world. Default: none."""
        return MappingProxyType({})

    def single_task(self, concept: str) -> Task | None:
        """The task of forgetting one concept. None, the default: all other concepts must stay."""
        return None

    def all_styles_view(self) -> World | None:
        """The same world with concepts asked for in every style, and with reference images of them in every style.

        None, the default: the world does not offer this.
        """
        return None

    # How a world gets its data

    def configure(self, options: Options) -> World:
        """A world that uses the user's options. Default: this world, which takes no option.

        Raises ValueError for options that the world does not take, WorldUnavailable if it needs data that is missing.
        """
        if flags := options.flags():
            raise ValueError(f"the world {self.name!r} takes no {flags[0]}: it brings its own data and judges")
        return self

    def prepare(self, data: Path, console: Console) -> bool:
        """Download into `data` what can be downloaded, and print what is missing. Returns whether all data is there."""
        return True

    def oracle(self, concept: str) -> Path | None:
        """File of the weights of a model that was trained from scratch without a concept.

        `bench.plan.oracle` reads it. None, the default: it was not built on this machine. Raises WorldUnavailable if
        the file is damaged or was made with another default backbone.
        """
        return None

    # What follows from the domains

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept, domain by domain, without the styles."""
        return tuple(concept for concepts in self.domains.values() for concept in concepts)

    def domain_of(self, concept: str) -> str:
        """The domain of a concept. Raises ValueError if it has none, as a style has none."""
        for domain, concepts in self.domains.items():
            if concept in concepts:
                return domain
        raise ValueError(f"{concept!r} belongs to no domain of the world {self.name!r}")

    def domain_members(self, concept: str) -> tuple[str, ...]:
        """All concepts of a concept's domain, or all styles, `concept` included. Raises ValueError."""
        return self.styles if concept in self.styles else self.domains[self.domain_of(concept)]

    def kept_siblings(self, concepts: Sequence[str], kept: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Each of `concepts` -> the concepts in `kept` that are of its domain, or all of `kept` if none is."""
        members = {concept: self.domain_members(concept) for concept in concepts}
        return {c: tuple(k for k in kept if k in members[c]) or tuple(kept) for c in members}
