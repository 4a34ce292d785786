"""Who looks at the images: the world's judges and its feature extractor, loaded once, each image seen once."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from bench.backbones.sampler import ImageSpec
from bench.cells.artifact import JUDGES, Artifact, Key, StageOutput
from bench.cells.images import Images
from bench.core import device, digest
from bench.core.store import Entry
from bench.worlds import Clip, World, WorldUnavailable
from bench.worlds.base import classify

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

BATCH = 128  # pictures at a time; memory only
LOOKS = ("judged", "penultimate")  # what is kept of each judge


class Panel:
    """Judges and extractor for `concepts` of a world.

    `digest` says who they are: another set of weights is another panel.
    """

    def __init__(self, world: World, concepts: Sequence[str], device: torch.device) -> None:
        # torchvision comes with it: a second to import; lists need none of it
        from torch_fidelity.utils import create_feature_extractor, resolve_feature_layer_for_metric

        self.world, self.device = world, device
        names = dict.fromkeys(world.judge_of(concept) for concept in concepts)
        self.judges = {name: world.judge(name, device) for name in names}
        self.extractor_name = world.feature_extractor()
        layer = resolve_feature_layer_for_metric("fid", feature_extractor=self.extractor_name)
        cuda = device.type == "cuda"
        file = world.feature_weights()
        given = {"feature_extractor_weights_path": file} if file else {}
        try:
            self.extractor = create_feature_extractor(self.extractor_name, [layer], cuda=cuda, verbose=False, **given)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, no room, a bad file
            where = file or "its usual address, once, by torch-fidelity"
            said = f"the weights of the feature extractor {self.extractor_name!r} can't be had from {where}"
            raise WorldUnavailable(f"{said} ({type(error).__name__}: {error}){world.feature_hint}") from error
        self.clip = world.clip(device)
        self.digest = digest.of_json(
            {
                "judges": {name: [identity(judge.module), judge.labels] for name, judge in self.judges.items()},
                "clip": [identity(m) for m in (self.clip.model, self.clip.normalise)] if self.clip else "",
                "extractor": [self.extractor_name, digest.of_tensors(self.extractor.state_dict())],
            }
        )

    def offload(self) -> None:
        """Leave the device, whose memory others need, until there is something to look at."""
        self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        clip = [self.clip.model, self.clip.normalise] if self.clip else []
        for network in (*(judge.module for judge in self.judges.values()), self.extractor, *clip):
            if isinstance(network, torch.nn.Module):
                network.to(device)

    @torch.inference_mode()
    @device.exact()
    def judge(self, images: Iterable[torch.Tensor], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Judge uint8 images (n, 3, H, W), some at a time, N in all, and the N prompts that asked for them.

        Returns "judged.NAME", the label index each judge gives, int64 (N,), "penultimate.NAME", what its last layer
        was given, float32 (N, D'), "features", float32 (N, D), and "clip", the cosine of image and prompt, float32
        (N,), if the world has a CLIP model.
        """
        seen: dict[str, list[torch.Tensor]] = {f"{what}.{name}": [] for what in LOOKS for name in self.judges}
        seen |= {"features": []} | ({"clip": []} if self.clip else {})
        self._move(self.device)
        texts = self._texts(self.clip, prompts) if self.clip else torch.empty(0)
        done = 0
        for batch in (batch.to(self.device) for part in images for batch in part.split(BATCH)):
            for name, judge in self.judges.items():
                logits, penultimate = classify(judge, batch)
                seen[f"judged.{name}"].append(logits.argmax(1).cpu())
                seen[f"penultimate.{name}"].append(penultimate.float().cpu())
            seen["features"].append(self.features(batch))
            if self.clip:
                text = texts[done : done + len(batch)]
                image = self.clip.model.encode_image(self.clip.normalise(batch.float() / 255), normalize=True)
                seen["clip"].append((image * text).sum(1).float().cpu())
            done += len(batch)
        if done != len(prompts):
            raise ValueError(f"{done} images came for {len(prompts)} prompts")
        return {name: torch.cat(parts) for name, parts in seen.items()}

    def _texts(self, clip: Clip, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings of `prompts`, (N, D), each different one made once."""
        known = list(dict.fromkeys(prompts))
        texts = clip.model.encode_text(clip.tokenizer(known).to(self.device), normalize=True)
        place = {prompt: i for i, prompt in enumerate(known)}
        return texts[[place[prompt] for prompt in prompts]]

    @torch.inference_mode()
    @device.exact()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The extractor's features of uint8 images (N, 3, H, W): float32 (N, D), on the CPU."""
        self._move(self.device)
        return torch.cat([self.extractor(batch.to(self.device))[0].float().cpu() for batch in images.split(BATCH)])

    @torch.inference_mode()
    @device.exact()
    def right(self, concept: str, images: torch.Tensor) -> int:
        """In how many of uint8 images (N, 3, H, W) the judge that knows `concept` sees it."""
        self._move(self.device)
        judge = self.judges[self.world.judge_of(concept)]
        wanted = judge.labels.index(concept)
        return sum(
            int((judge.module(batch.to(self.device).float() / 255).argmax(1) == wanted).sum())
            for batch in images.split(BATCH)
        )

    def labels(self, concepts: Sequence[str]) -> frozenset[str]:
        """What the judges that know `concepts` can answer."""
        return frozenset(label for c in concepts for label in self.judges[self.world.judge_of(c)].labels)

    def label(self, concept: str, seen: Mapping[str, torch.Tensor], index: int) -> str:
        """What the judge that knows `concept` called the image at `index` of what `look` saw."""
        name = self.world.judge_of(concept)
        return self.judges[name].labels[int(seen[f"judged.{name}"][index])]

    def penultimate(
        self, concepts: Sequence[str], seen: Mapping[str, torch.Tensor], kept: Sequence[int]
    ) -> torch.Tensor:
        """Features of the images at `kept` by the judges that know their `concepts`: float32 (len(kept), D).

        Where judges differ in width, zeros fill up the shorter rows: no distance or cosine changes by them.
        """
        rows = [seen[f"penultimate.{self.world.judge_of(c)}"][i] for c, i in zip(concepts, kept, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def identity(what: Any) -> list[str]:
    """What decides what a network says: its weights, its layers, and the code of the class that puts them together."""
    if not isinstance(what, torch.nn.Module):
        return [digest.of_module(sys.modules[what.__module__])]
    return [digest.of_tensors(what.state_dict()), repr(what), digest.of_module(sys.modules[type(what).__module__])]


class Judgements(Artifact[...]):
    """What the judges see in the images of some specs, or in all evaluation images: what `Panel.judge` returns."""

    name = kind = "judgements"
    libraries = ("diffusers", *JUDGES)  # of large images latents are all that is kept: the VAE decodes them

    def key(self, images: Entry, specs: Sequence[ImageSpec] | None = None) -> Key:
        looking = {"panel": self.context.judges_digest, "prompts": digest.of_json(self._prompts(specs))}
        return {"images": images.content, "backbone": self.context.content, **looking, **self.stamp()}

    def compute(self, images: Entry, specs: Sequence[ImageSpec] | None = None) -> StageOutput:
        return self.context.judges.judge(Images(self.context).decoded(images), self._prompts(specs)), {}

    def _prompts(self, specs: Sequence[ImageSpec] | None) -> list[str]:
        return [spec.prompt for spec in (self.context.specs if specs is None else specs)]


class Reference(Artifact[[str]]):
    """Reference images of a concept: their "features", float32 (R, D), and in how many ("right") the judge sees it."""

    name = kind = "reference"
    libraries = (*JUDGES, "numpy", "pillow")

    def key(self, concept: str) -> Key:
        judged = {"count": self.plan.references(concept), "panel": self.context.judges_digest}
        return {**identity_of_reference(self.context, concept), **judged, **self.stamp()}

    def compute(self, concept: str) -> StageOutput:
        world, count, judges = self.plan.world, self.plan.references(concept), self.context.judges
        self.context.report(f"real pictures of {concept}", 0, count)
        pictures = world.reference(concept, count)
        facts = {"right": judges.right(concept, pictures), "count": count}
        return {"features": judges.features(pictures)}, facts

    def __call__(self, concept: str) -> Entry:
        """The entry from the store, or computed now; looked for once."""
        entry: Entry = self.context.once("reference entry", concept, lambda: super(Reference, self).__call__(concept))
        return entry


def identity_of_reference(context: Context, concept: str) -> Key:
    """What identifies a concept's reference images: the first of them, or what the world says, and its prompts."""

    def identify() -> Key:
        world = context.plan.world
        if (key := world.reference_key(concept)) is not None:
            first = digest.of_json(key)
        else:
            first = digest.of_tensors({"pictures": world.reference(concept, 2)})
        return {"concept": concept, "first": first, "asked": world.prompts("evaluate", concept)}

    made: Key = context.once("reference", concept, identify)
    return made
