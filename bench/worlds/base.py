"""What a world is: what can be drawn, how it is asked for, and how a picture is checked. Data and a few functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from typing import Protocol as Interface

import torch

from bench.core.config import Protocol
from bench.core.task import Task

if TYPE_CHECKING:
    from rich.console import Console

DIGITS = 6  # of distances: what a text encoder says differs behind that between machines and thread counts

Split = Literal["forget", "evaluate"]
SPLITS: tuple[Split, ...] = get_args(Split)
HeadNoun = tuple[tuple[str, ...], tuple[str, ...]]  # prompts, concepts


class Rest(Interface):
    """(concept, split) -> what its prompts ask for besides it, one for each; those to forget with unless said."""

    def __call__(self, concept: str, split: Split = "forget") -> tuple[str, ...]: ...


def nothing_left(concept: str, split: Split = "forget") -> tuple[str, ...]:
    """The `Rest` of a world that has no broader words."""
    return ()


class WorldUnavailable(RuntimeError):
    """Something that a world needs is missing or damaged; the message says what, and what to do."""


@dataclass(frozen=True)
class Judge:
    """A classifier that says what a picture shows.

    Args:
        labels: the concept each logit stands for.
        module: float pictures in [0, 1], (B, 3, H, W) -> logits (B, len(labels)); in eval mode.
        head: the last layer of `module`: what it is given, (B, D), are a picture's features.
    """

    labels: tuple[str, ...]
    module: torch.nn.Module
    head: torch.nn.Module


def classify(judge: Judge, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of uint8 images (B, 3, H, W), and what the judge's last layer was given, (B, D), in one pass."""
    given: list[torch.Tensor] = []
    handle = judge.head.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    try:
        logits = judge.module(images.float() / 255)
    finally:
        handle.remove()
    return logits, given[0]


@dataclass(frozen=True)
class Clip:
    """A contrastive model of pictures and captions, as open_clip builds them.

    Args:
        model: has encode_image and encode_text, both with `normalize`; in eval mode.
        tokenizer: captions -> token ids, int64 (B, tokens).
        normalise: float pictures in [0, 1], (B, 3, H, W) -> what encode_image takes.
    """

    model: Any  # a Module whose type would hide its two methods
    tokenizer: Callable[[list[str]], torch.Tensor]
    normalise: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Options:
    """What a user says of a world that takes it.

    Args:
        backbone: () -> folder of the pipeline, whose text encoder says what is close; the first call may download it.
        data: folder of the world's data sets.
        judges: which judges to use, as the world understands it; () for its usual ones.
        neighbours: how many concepts must stay near a forgotten one, or "all"; None for the world's usual number.
        clip: the CLIP model behind CLIP score, or "none"; None for the world's usual one.
    """

    backbone: Callable[[], Path]
    data: Path | None = None
    judges: tuple[str, ...] = ()
    neighbours: str | None = None
    clip: str | None = None


@dataclass(frozen=True)
class World:
    """A set of concepts with the means to ask for them and to recognise them.

    Args:
        name: as in `--world` and in the names of its boards.
        about: one line for `ls worlds`.
        domains: domain -> its concepts. Concepts of one domain are each other's neighbours.
        styles: ways of drawing any concept; the first is the plain one.
        protocol: sampling and sample counts that suit the world's default backbone.
        presets: method -> config values that suit the default backbone, where the paper's own do not.
        superclass_prompts: (concept, split) -> the prompts of the concept with its superclass in place of its name ("a
            photo of a dog" for a breed), or with the plain style in place of another style: one for each of `prompts`.
            () for a concept without a superclass; methods that need one then refuse. The split "evaluate" is for
            metrics alone.
        bare_name: concept -> its name as a prompt of its own, in the words of its prompts and with nothing around it.
        tuning_concepts: concepts that presets were tuned on, which no suite of a board forgets.
        all_styles_view: () -> the same world with every concept asked for in every style, and reference images of it in
            every style. None for a world of one style.
        backbone: () -> the default backbone as `--backbone` would name it.
            Raises WorldUnavailable, as `judge` and `closeness` may.
        prompts: (split, concept) -> prompts that ask for it; of a style, prompts that ask for some concepts in it.
            Prompt i of one concept and prompt i of another differ in the concept's name alone, and so for styles; those
            of "forget" and "evaluate" share no template.
        reference: (concept, count) -> real pictures that no model or judge was trained on, uint8 (count, 3, H, W);
            the first n of a longer list are those of a shorter one.
        reference_names: (concept, count) -> what tells these pictures apart, where two concepts may share one: a name
            for each; of all that there are for a count of None. None: they share none.
        reference_key: concept -> what tells its real pictures from others, such as names and sizes of files, where that
            is cheaper than to look at the first two, as is done without it.
        extra_concepts: concepts that are drawn and judged besides those of a task, because a published metric counts
            them. No suite forgets them and no other metric counts them. An image that asks for one counts for nothing
            else.
        judge: (name, device) -> the classifier called so.
        judge_of: concept or style -> name of the judge that knows it.
        closeness: (a, b) -> how near two concepts or styles are to the text encoder, at most 1.
        other_distances: name -> (a, b) -> a distance of two concepts that the text encoder does not define: at least 0,
            or None where it is undefined.
        feature_extractor: () -> name under which torch-fidelity knows this world's feature extractor.
        feature_weights: () -> file of the extractor's weights; None leaves it to torch-fidelity to find them.
        feature_hint: what to tell a user where they can't be had.
        headnoun: concept -> prompts that name it by its head noun alone, in the words of the evaluation prompts in the
            plain style, and every concept that this noun names; None where it names no other.
        clip: device -> the model behind CLIP score, or it raises WorldUnavailable. None: the column stays blank.
        oracles: concept -> () -> file of a model retrained from nothing without it, read by `bench.plan.oracle`; None
            where it was not built here. It raises WorldUnavailable for a file that is damaged or belongs to another
            default backbone. Only concepts that the world can build one of.
        oracle_hint: what to tell a user where they were not built.
        tasks: suite -> () -> its tasks in this world, where the suite's own rule is not the one to follow.
        single_task: concept -> the task of forgetting it alone, where that is not to keep every other concept.
        configure: Options -> the world with these: one that can be measured on. It raises ValueError for options that
            make no sense. None for a world that takes no option; others raise WorldUnavailable until configured.
        chosen: what was chosen so, for people: what -> which.
        prepare: (data, console) -> whether all that the world needs of data is there: says what is missing, and gets
            what can be had. None for a world that needs nothing.
    """

    name: str
    about: str
    domains: Mapping[str, tuple[str, ...]]
    styles: tuple[str, ...]
    protocol: Protocol
    backbone: Callable[[], str]
    prompts: Callable[[Split, str], tuple[str, ...]]
    reference: Callable[[str, int], torch.Tensor]
    judge: Callable[[str, torch.device], Judge]
    judge_of: Callable[[str], str]
    closeness: Callable[[str, str], float]
    feature_extractor: Callable[[], str]
    feature_weights: Callable[[], str | None] = lambda: None
    feature_hint: str = ""
    reference_names: Callable[[str, int | None], tuple[str, ...]] | None = None
    reference_key: Callable[[str], Any] | None = None
    extra_concepts: tuple[str, ...] = ()
    other_distances: Mapping[str, Callable[[str, str], float | None]] = field(default_factory=dict)
    headnoun: Callable[[str], HeadNoun | None] = lambda concept: None
    clip: Callable[[torch.device], Clip] | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    superclass_prompts: Rest = nothing_left
    bare_name: Callable[[str], str] = lambda concept: concept
    tuning_concepts: tuple[str, ...] = ()
    all_styles_view: Callable[[], World] | None = None
    oracles: Mapping[str, Callable[[], Path | None]] = field(default_factory=dict)
    oracle_hint: str = ""
    tasks: Mapping[str, Callable[[], tuple[Task, ...]]] = field(default_factory=dict)
    single_task: Callable[[str], Task] | None = None
    configure: Callable[[Options], World] | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path, Console], bool] | None = None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept, domain by domain."""
        return tuple(concept for concepts in self.domains.values() for concept in concepts)

    def distances(self, a: str, b: str) -> dict[str, float]:
        """How far `a` is from `b`: "text" is 1 - `closeness`; then by each of `other_distances` that has an answer."""
        further = {name: distance(a, b) for name, distance in self.other_distances.items()}
        found = {"text": 1 - self.closeness(a, b), **{name: d for name, d in further.items() if d is not None}}
        return {name: round(d, DIGITS) for name, d in found.items()}

    def domain_members(self, concept: str) -> tuple[str, ...]:
        """The concepts that `concept` is one of: those of its domain, or all styles. Raises ValueError."""
        return self.styles if concept in self.styles else self.domains[self.domain_of(concept)]

    def kept_siblings(self, concepts: Sequence[str], kept: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Each of `concepts` -> those `kept` that are of its domain, or styles like it; all where none is."""
        members = {concept: self.domain_members(concept) for concept in concepts}
        return {c: tuple(k for k in kept if k in members[c]) or tuple(kept) for c in members}

    def domain_of(self, concept: str) -> str:
        """The domain `concept` belongs to. Raises ValueError if there is none."""
        for domain, concepts in self.domains.items():
            if concept in concepts:
                return domain
        raise ValueError(f"{concept!r} belongs to no domain of the world {self.name!r}")
