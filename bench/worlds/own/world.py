"""The world of a file of concepts: what `--concepts FILE` draws and judges."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import torch

from bench.core import digest
from bench.core.filenames import without_folders
from bench.worlds import contrastive, inception
from bench.worlds.base import Clip, Judge, Options, Split, World
from bench.worlds.own import concept_file, defaults, judges
from bench.worlds.own.concept_file import PLACE, ConceptFile
from bench.worlds.own.entries import WrongConcepts
from bench.worlds.own.reference_folders import ReferenceFolders
from bench.worlds.templates import fill
from bench.worlds.text_closeness import TextCloseness

NAME = "own"
DRAWN_FROM = 0.5  # of the untouched model's images of a concept
JUDGES = {
    "open_clip": "zero_shot",
    "transformers": "checkpoint",
    "timm": "checkpoint",
    "python": "python",
}  # kind of judge -> its name in tables


class Own(World):
    """The concepts of a YAML file, on any backbone.

    Args:
        file: the content of the file.
        backbone: the backbone, as `--backbone` names it; None for the one in the file.
        options: the user's options. With None the world has no backbone yet.

    Raises WrongConcepts if neither the user nor the file names a backbone.
    """

    name = NAME
    about = "the concepts of a file that --concepts names"
    styles = ()
    reference_from_model = True
    drawn_from = DRAWN_FROM
    feature_hint = f"{inception.HINT} (--data DIR)"

    def __init__(self, file: ConceptFile, backbone: str | None = None, options: Options | None = None) -> None:
        chosen = backbone or file.backbone
        if chosen is None:
            raise WrongConcepts(
                f"--concepts {file.path}: no backbone is named; give --backbone, or a line `backbone: sd15` in the file"
            )
        self.file, self.options, self._backbone = file, options, chosen
        self.defaults = defaults.of_backbone(chosen)
        self.domains = file.domains
        self.requested = file.forget
        self.captions = file.captions
        self.presets = self.defaults.presets
        self.verifies_backbone = self.defaults.verified
        self.folders = ReferenceFolders(file)
        self.protocol = self.folders.protocol(self.defaults.protocol)
        if file.judge.kind == "python":
            self.files = (file.judge.name,)
        self.chosen = self._chosen()

    def configure(self, options: Options) -> Own:
        """A world that uses the user's CLIP model. Raises ValueError for options that the file decides."""
        flags = {"--judge": ("judge", options.judges), "--neighbours": ("domains", options.neighbours)}
        for flag, (entry, value) in flags.items():
            if value:
                raise ValueError(f"{flag} does not go with --concepts: `{entry}` in the file says it; leave {flag} out")
        return type(self)(self.file, self._backbone, options)

    def backbone(self) -> str:
        """The backbone that the user or the file names, or the folder of the pocket model."""
        return self.defaults.source

    def prompts(self, split: Split, concept: str) -> tuple[str, ...]:
        """The file's templates with the name of the concept in them."""
        return self._filled(split, self.domain_of(concept), concept)

    def superclass_prompts(self, concept: str, split: Split = "forget") -> tuple[str, ...]:
        """The same templates with the kind of the concept's domain in place of its name."""
        domain = self.domain_of(concept)
        return self._filled(split, domain, self.file.kinds[domain])

    def _filled(self, split: Split, domain: str, name: str) -> tuple[str, ...]:
        return tuple(fill(template, name, PLACE) for template in self.file.prompts[domain][split])

    def reference(self, concept: str, count: int) -> torch.Tensor:
        """The first `count` pictures of the concept's folder, uint8 (count, 3, side, side).

        Raises NotImplementedError for a concept without a folder, and WorldUnavailable for too few pictures.
        """
        return self.folders.pictures(concept, count, self._options.backbone())

    def reference_key(self, concept: str, count: int | None = None) -> list[object] | None:
        """Names and digests of the pictures; None for a concept without a folder."""
        return self.folders.key(concept, count, self._options.backbone())

    def caption_reference(self) -> torch.Tensor | None:
        """The pictures of the folder that the entry `captions` names; None without a folder."""
        return self.folders.of_captions(self._options.backbone())

    def caption_reference_key(self) -> list[object] | None:
        """Names and digests of these pictures; None without a folder."""
        return self.folders.key_of_captions(self._options.backbone())

    def judge_of(self, concept: str) -> str:
        """The file's judge, which knows every concept."""
        return JUDGES[self.file.judge.kind]

    def judge(self, name: str, device: torch.device) -> Judge:
        """The file's judge. Raises WorldUnavailable as `bench.worlds.own.judges.load` does."""
        return judges.load(self.file, self.defaults.judge, device)

    def clip(self, device: torch.device) -> Clip | None:
        """The model of `--clip`, or the default one for the backbone. None if the user chose "none"."""
        return contrastive.load(self._options.clip or self.defaults.clip, device)

    def feature_extractor(self) -> str:
        """Inception v3, or the pocket world's extractor on the pocket model."""
        return self.defaults.extractor

    def feature_weights(self) -> str | None:
        """The path of Inception's weights in the folder of `--data`; None if there are none."""
        return inception.weights(self.options.data if self.options else None)

    def closeness(self, a: str, b: str) -> float:
        """Mean cosine similarity of two concepts' evaluation prompts under the backbone's text encoder."""
        return self._closeness(a, b)

    @property
    def _options(self) -> Options:
        return self.options or Options(lambda: Path(self.defaults.source))

    @cached_property
    def _closeness(self) -> TextCloseness:
        return TextCloseness(self._options.backbone, partial(self.prompts, "evaluate"))

    def _chosen(self) -> dict[str, str]:
        """The judge and the CLIP model, for the reports."""
        judge = self.file.judge
        if judge.kind == "open_clip":
            model = without_folders(judge.name, model=True) if judge.name else self.defaults.called
            sentences = len(judges.sentences(self.file, self.file.concepts[0]))
            described = f"zero-shot, {model or self.defaults.judge}, {sentences} sentences for each concept"
        elif judge.kind == "python":
            described = f"{without_folders(judge.name)} ({digest.of_file(Path(judge.name))[:12]})"
        else:
            described = f"{without_folders(judge.name)}, a checkpoint of {judge.kind}"
        clip = self.options.clip if self.options else None
        named = without_folders(clip, model=True) if clip else self.defaults.called or self.defaults.clip
        captions = {"captions": f"{len(self.captions)}"} if self.captions else {}
        return {"judge": described, **captions, **self.folders.described(), "CLIP": named}


def read(file: Path, backbone: str | None) -> Own:
    """The world of a file of concepts. Raises WrongConcepts."""
    return Own(concept_file.read(file), backbone)
