"""The similarity of concepts under a judge: the cosine of their mean features of photographs.

The mean features are computed once and cached.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from bench.core import device, digest
from bench.worlds import pictures
from bench.worlds.base import Judge, classify
from bench.worlds.natural.photographs.reader import Photo, Photographs, picture

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "6916221918543830871b830994086c0ba2f3cc93af8800c60386b34d2fd8b6f7"

PER_CLASS = 10  # training images of each concept for its mean
SIDE = 256  # pixels; the input of most judges has 224
BATCH = 32

log = logging.getLogger(__name__)


class Likeness:
    """The similarity of the concepts of one domain.

    FADE (Thakral et al., CVPR 2025, arXiv 2503.19783) ranks neighbours by the cosine of mean image features. FADE's
    images are samples of the model. Lethe uses training photographs, so that a suite does not depend on the backbone.

    Args:
        photos: () -> the domain's photographs.
        judge: () -> the domain's judge. Its features are the input of its last layer.
        folder: the cache folder for the mean features. The file name contains a cache key. None disables the cache.
        digest_of: image file -> digest of its bytes.
    """

    def __init__(
        self,
        photos: Callable[[], Photographs],
        judge: Callable[[], Judge],
        folder: Path | None,
        digest_of: Callable[[Path], str] = digest.of_file,
    ) -> None:
        self._photos, self._judge, self._folder, self._digest_of = photos, judge, folder, digest_of

    def __call__(self, a: str, b: str) -> float:
        """Cosine of the mean features of two concepts of the domain, in [-1, 1]. It is 1 if a == b."""
        labels = self._photos().labels
        return 1.0 if a == b else float(self.means[labels.index(a)] @ self.means[labels.index(b)])

    def nearest(self, concept: str) -> tuple[str, ...]:
        """The other concepts of the domain, sorted by similarity to `concept`, most similar first."""
        others = [other for other in self._photos().labels if other != concept]
        return tuple(sorted(others, key=lambda other: (-self(concept, other), other)))

    @cached_property
    def means(self) -> torch.Tensor:
        """Mean features of each concept, normalised to unit length: float32 (concepts, D).

        Raises WorldUnavailable if a photograph or the judge can't be read.
        """
        photos, judge = self._photos(), self._judge()
        chosen = [photo for label in range(len(photos.labels)) for photo in _first(photos, label)]
        key = digest.of_json(
            {
                "judge": [digest.of_tensors(judge.module.state_dict()), repr(judge.module)],
                "pictures": [[self._digest_of(path), label] for path, label in chosen],
                "side": SIDE,
                "code": [digest.of_module(module) for module in (pictures, sys.modules[__name__])],
            }
        )
        file = self._folder / f"likeness-{photos.domain}-{key[:16]}.safetensors" if self._folder else None
        found = _kept(file) if file and file.is_file() else None
        if found is None:
            found = _means(photos, judge, chosen)
            if file:
                _keep(file, found)
        return found


def _first(photos: Photographs, label: int) -> list[Photo]:
    return [photo for photo in photos.train if photo[1] == label][:PER_CLASS]


@torch.inference_mode()
@device.exact()
def _means(photos: Photographs, judge: Judge, chosen: list[Photo]) -> torch.Tensor:
    """Mean features of the `chosen` photographs of each label, normalised to unit length: float32 (labels, D)."""
    from tqdm import tqdm

    device = next(judge.module.parameters()).device
    given = []
    for start in tqdm(range(0, len(chosen), BATCH), f"which {photos.domain} look alike", unit="batch"):
        batch = torch.stack([picture(path, SIDE) for path, _ in chosen[start : start + BATCH]])
        given.append(classify(judge, batch.to(device))[1].float().cpu())
    features = torch.nn.functional.normalize(torch.cat(given), dim=1)
    labels = torch.tensor([label for _, label in chosen])
    each = torch.stack([features[labels == label].mean(0) for label in range(len(photos.labels))])
    return torch.nn.functional.normalize(each, dim=1)


def _kept(file: Path) -> torch.Tensor | None:
    """The mean features in `file`. None, with a warning, for a file that is damaged or was changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            means, written = stored.get_tensor("means"), (stored.metadata() or {}).get("digest")
        if written != digest.of_tensors({"means": means}):
            raise ValueError("it does not have the digest it was written with")
    except (OSError, ValueError, SafetensorError) as error:
        log.warning("%s is damaged (%s): computed again", file, error)
        return None
    return means


def _keep(file: Path, means: torch.Tensor) -> None:
    from safetensors.torch import save_file

    work = file.with_suffix(f".{os.getpid()}.new")  # two processes may write at the same time
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"means": means}, work, {"digest": digest.of_tensors({"means": means})})
        work.replace(file)
    except OSError as error:  # the data folder may be read-only
        log.warning("%s can't be written (%s): the next run computes it again", file, error)
