"""The judges of a run: the world's classifiers, its feature extractor and its CLIP model, and what they compute."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.backbones import finite
from bench.backbones.checks import tensor_check
from bench.backbones.sampler import ImageSpec
from bench.cells.artifact import JUDGES, Artifact, Key, StageOutput, of_world
from bench.cells.checks import judge_labels, reference_pictures
from bench.cells.images import Images, reference_specs, shows_nothing
from bench.core import device, digest
from bench.core.store import Entry
from bench.worlds import Clip, World, WorldUnavailable
from bench.worlds.base import classify

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

BATCH = 128  # images in one batch; it affects memory, but no result
DEGENERATE = "degenerate"  # name of the fact with the indices of images that show nothing
OUTPUTS = ("judged", "penultimate")  # names of the stored outputs of each classifier


# errors of reading a file of weights: no network, a full disk, a damaged file, a pickle that contains code
FILES = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, tensor_check.TensorMismatch)


class Judges:
    """The classifiers for `concepts` of a world, the world's feature extractor, and its CLIP model if it has one.

    The attribute `digest` identifies them by their weights and code.

    Raises WorldUnavailable if a network can't be loaded.
    """

    def __init__(self, world: World, concepts: Sequence[str], device: torch.device) -> None:
        # this imports torchvision, which takes a second, and commands that only list names do not need it
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
        from torch_fidelity.utils import create_feature_extractor, resolve_feature_layer_for_metric

        self.world, self.device = world, device
        names = dict.fromkeys(world.judge_of(concept) for concept in concepts)
        self.judges = {name: judge_labels.load(world, name, concepts, device) for name in names}
        self.extractor_name = world.feature_extractor()
        if self.extractor_name not in FEATURE_EXTRACTORS_REGISTRY:
            known = ", ".join(sorted(FEATURE_EXTRACTORS_REGISTRY))
            raise WorldUnavailable(
                f"world {world.name!r}: torch-fidelity has no feature extractor {self.extractor_name!r}; known: {known}"
            )
        layer = resolve_feature_layer_for_metric("fid", feature_extractor=self.extractor_name)
        cuda = device.type == "cuda"
        file = world.feature_weights()
        given = {"feature_extractor_weights_path": file} if file else {}
        try:
            if file:  # torch-fidelity would run code that a pickle contains
                tensor_check.unpickled(Path(file), "cpu")
            self.extractor = create_feature_extractor(self.extractor_name, [layer], cuda=cuda, verbose=False, **given)
        except FILES as error:
            source = file or "the address from which torch-fidelity downloads them once"
            reason = f"the weights of the feature extractor {self.extractor_name!r} can't be loaded from {source}"
            raise WorldUnavailable(f"{reason} ({type(error).__name__}: {error}){world.feature_hint}") from error
        self.clip = world.clip(device)
        self.digest = digest.of_json(
            {
                "judges": {name: [identity(judge.module), judge.labels] for name, judge in self.judges.items()},
                "clip": self._identity_of_clip() if self.clip else "",
                "extractor": [self.extractor_name, digest.of_tensors(self.extractor.state_dict())],
                **of_world(world),
            }
        )

    def _identity_of_clip(self) -> list[Any]:
        """The model, its preprocessing, and what its tokenizer makes of the world's prompts."""
        assert self.clip
        known = [identity(one) for one in (self.clip.model, self.clip.normalise)]
        if self.clip.verified:
            return known
        named = (*self.world.concepts, *self.world.styles)
        prompts = dict.fromkeys(prompt for concept in named for prompt in self.world.prompts("evaluate", concept))
        return [*known, digest.of_tensors({"tokens": self.clip.tokenizer([*prompts])})]

    def offload(self) -> None:
        """Move all networks to the CPU until the next use, to free memory of the device."""
        self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        clip = [self.clip.model, self.clip.normalise] if self.clip else []
        for network in (*(judge.module for judge in self.judges.values()), self.extractor, *clip):
            if isinstance(network, torch.nn.Module):
                network.to(device)

    @torch.inference_mode()
    @device.exact()
    def judge(self, images: Iterable[torch.Tensor], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Compute the outputs of all networks for N images.

        Args:
            images: batches of images, each uint8 (n, 3, H, W), N images in all.
            prompts: the N prompts of the images.

        Returns tensors on the CPU:

        - "judged.NAME", int64 (N,): index of the label that the classifier NAME predicts.
        - "penultimate.NAME", float32 (N, D'): input of the last layer of this classifier.
        - "features", float32 (N, D): output of the feature extractor.
        - "clip", float32 (N,): cosine similarity of image and prompt, if the world has a CLIP model.

        Raises ValueError if the numbers of images and prompts differ, and NonFiniteImage.
        """
        outputs: dict[str, list[torch.Tensor]] = {f"{what}.{name}": [] for what in OUTPUTS for name in self.judges}
        outputs |= {"features": []} | ({"clip": []} if self.clip else {})
        self._move(self.device)
        texts = self._texts(self.clip, prompts) if self.clip else torch.empty(0)
        done = 0
        for batch in (batch.to(self.device) for part in images for batch in part.split(BATCH)):
            asked = prompts[done : done + len(batch)]
            for name, judge in self.judges.items():
                logits, penultimate = classify(judge, batch)
                finite.require(logits, f"the outputs of the judge {name!r}", asked)
                finite.require(penultimate, f"the features of the judge {name!r}", asked)
                outputs[f"judged.{name}"].append(logits.argmax(1).cpu())
                outputs[f"penultimate.{name}"].append(penultimate.float().cpu())
            outputs["features"].append(self.features(batch, asked))
            if self.clip:
                text = texts[done : done + len(batch)]
                image = self.clip.model.encode_image(self.clip.normalise(batch.float() / 255), normalize=True)
                similarity = (image * text).sum(1).float()
                finite.require(similarity, "the similarities of the CLIP model", asked)
                outputs["clip"].append(similarity.cpu())
            done += len(batch)
        if done != len(prompts):
            raise ValueError(f"there must be one image for each prompt; found {done} images, {len(prompts)} prompts")
        return {name: torch.cat(parts) for name, parts in outputs.items()}

    def _texts(self, clip: Clip, prompts: Sequence[str]) -> torch.Tensor:
        """Normalised embeddings of the N `prompts`, (N, D). Equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        texts = clip.model.encode_text(clip.tokenizer(distinct).to(self.device), normalize=True)
        row = {prompt: i for i, prompt in enumerate(distinct)}
        return texts[[row[prompt] for prompt in prompts]]

    @torch.inference_mode()
    @device.exact()
    def features(self, images: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """Outputs of the feature extractor for uint8 images (N, 3, H, W): float32 (N, D), on the CPU.

        Raises NonFiniteImage, which names one of the N `names`.
        """
        self._move(self.device)
        batches = images.split(BATCH)
        features = torch.cat([self.extractor(batch.to(self.device))[0].float().cpu() for batch in batches])
        finite.require(features, f"the features of {self.extractor_name!r}", names)
        return features

    @torch.inference_mode()
    @device.exact()
    def count_predicted(self, concept: str, images: torch.Tensor) -> int:
        """The number of uint8 images (N, 3, H, W) for which the classifier of `concept` predicts `concept`."""
        self._move(self.device)
        judge = self.judges[self.world.judge_of(concept)]
        target = judge.labels.index(concept)
        logits = torch.cat([judge.module(batch.to(self.device).float() / 255) for batch in images.split(BATCH)])
        finite.require(logits, f"the outputs of {self.world.judge_of(concept)!r}", real_names(concept, len(images)))
        return int((logits.argmax(1) == target).sum())

    def labels(self, concepts: Sequence[str]) -> frozenset[str]:
        """All labels of the classifiers for `concepts`."""
        return frozenset(label for c in concepts for label in self.judges[self.world.judge_of(c)].labels)

    def label(self, concept: str, judged: Mapping[str, torch.Tensor], index: int) -> str:
        """The label that the classifier for `concept` predicts for image `index`; `judged` is the output of `judge`."""
        name = self.world.judge_of(concept)
        return self.judges[name].labels[int(judged[f"judged.{name}"][index])]

    def penultimate(
        self, concepts: Sequence[str], judged: Mapping[str, torch.Tensor], indices: Sequence[int]
    ) -> torch.Tensor:
        """Features of the images at `indices` from the classifiers for their `concepts`: float32 (len(indices), D).

        `judged` is the output of `judge`. Shorter rows are padded with zeros, which change no distance and no cosine
        between features of one classifier.
        """
        rows = [judged[f"penultimate.{self.world.judge_of(c)}"][i] for c, i in zip(concepts, indices, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def real_names(concept: str, count: int) -> list[str]:
    """Names of a concept's real pictures, for messages."""
    return [f"real picture {i} of {concept}" for i in range(count)]


def identity(network: Any) -> list[str]:
    """Everything that affects the output of a network or function: its weights, its layers, and the code of its class.

    For a function the result has only the version of its module.
    """
    if not isinstance(network, torch.nn.Module):
        return [digest.of_module(sys.modules[network.__module__])]
    module = sys.modules[type(network).__module__]
    return [digest.of_tensors(network.state_dict()), repr(network), digest.of_module(module)]


class Judgements(Artifact[...]):
    """The tensors that `Judges.judge` returns for the images of the specs; `specs` None means all evaluation images.

    The fact `DEGENERATE` has the indices of the images that show nothing. An entry without such images has no facts.
    """

    name = kind = "judgements"
    libraries = ("diffusers", *JUDGES)  # large images are stored as latents, which the VAE of diffusers decodes

    def key(self, images: Entry, specs: Sequence[ImageSpec] | None = None) -> Key:
        judging = {"panel": self.context.judges_digest, "prompts": digest.of_json(self._prompts(specs))}
        return {"images": images.content, "backbone": self.context.content, **judging, **self.stamp()}

    def compute(self, images: Entry, specs: Sequence[ImageSpec] | None = None) -> StageOutput:
        judges, prompts = self.context.judges, self._prompts(specs)
        degenerate, done = list[int](), 0
        parts = Images(self.context).decoded(images, prompts)

        def decoded() -> Iterator[torch.Tensor]:
            nonlocal done
            for part in parts:
                degenerate.extend((done + shows_nothing(part).nonzero().flatten()).tolist())
                done += len(part)
                yield part

        with self.context.watched(f"a judge of the world {self.plan.world.name!r}"):
            judged = judges.judge(decoded(), prompts)
        return judged, {DEGENERATE: degenerate} if degenerate else {}

    def _prompts(self, specs: Sequence[ImageSpec] | None) -> list[str]:
        return [spec.prompt for spec in (self.context.specs if specs is None else specs)]


class Reference(Artifact[[str]]):
    """The reference images of a concept.

    The entry has the tensor "features", float32 (R, D), and two facts: the number of real images, "count", and the
    number of these for which the classifier predicts the concept, "right". R is 0 for a concept without reference
    images, unless images of the untouched model stand for them (`World.reference_from_model`).
    """

    name = kind = "reference"
    libraries = (*JUDGES, "numpy", "pillow")

    def key(self, concept: str) -> Key:
        judged = {"count": self.plan.references(concept), "panel": self.context.judges_digest}
        return {**identity_of_reference(self.context, concept), **judged, **self.stamp()}

    def compute(self, concept: str) -> StageOutput:
        world, count, judges = self.plan.world, self.plan.references(concept), self.context.judges
        self.context.report(f"real pictures of {concept}", 0, count)
        pictures = reference_pictures.pictures(world, concept, count)
        if not len(pictures):
            features = self._of_model(concept) if world.reference_from_model else torch.empty(0, 0)
            return {"features": features}, {"right": 0, "count": 0}
        facts = {"right": judges.count_predicted(concept, pictures), "count": len(pictures)}
        return {"features": judges.features(pictures, real_names(concept, len(pictures)))}, facts

    def _of_model(self, concept: str) -> torch.Tensor:
        """Features of the images of the untouched model that stand for reference images, float32 (R, D)."""
        specs = reference_specs(self.plan, concept)
        judged = Judgements(self.context)(Images(self.context)(None, specs), specs)
        return judged.tensors()["features"]

    def __call__(self, concept: str) -> Entry:
        """The entry from the store, or computed now. The store is read once for each concept."""
        entry: Entry = self.context.once("reference entry", concept, lambda: super(Reference, self).__call__(concept))
        return entry


def identity_of_reference(context: Context, concept: str) -> Key:
    """The part of a key that identifies the reference images of a concept.

    It contains the evaluation prompts and `World.reference_key`. If the world has no such key, it contains the key of
    the untouched model's images that stand for reference images, or the digest of all reference images that are used. A
    key that is a text is the digest itself.
    """

    def identify() -> Key:
        world, count = context.plan.world, context.plan.references(concept)
        key = world.reference_key(concept, count)
        if key is None and world.reference_from_model:
            key = {"untouched": Images(context).key(None, reference_specs(context.plan, concept))}
        if key is None:
            key = digest.of_tensors({"pictures": reference_pictures.pictures(world, concept, count)})
        content = key if isinstance(key, str) else digest.of_json(key)
        names = world.reference_names(concept, None)
        ids = {"ids": digest.of_json(names)} if names is not None else {}
        return {"concept": concept, "first": content, "asked": world.prompts("evaluate", concept), **ids}

    identity: Key = context.once("reference", concept, identify)
    return identity
