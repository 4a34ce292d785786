"""Reference pictures of the user's concepts: a folder of pictures for each concept that has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from bench.backbones import folder
from bench.core import digest
from bench.core.config import Protocol
from bench.worlds import data_folder, pictures
from bench.worlds.base import WorldUnavailable
from bench.worlds.own.concept_file import ConceptFile
from bench.worlds.own.entries import WrongConcepts

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MOST = 60  # reference pictures of a concept, unless the protocol is changed
LEAST = 2  # FID needs a covariance


class ReferenceFolders:
    """The folders of a file of concepts.

    Args:
        file: the file.

    Raises WrongConcepts for a folder with fewer than two pictures.
    """

    def __init__(self, file: ConceptFile) -> None:
        self.file = file
        places = {f"references: {concept}": place for concept, place in file.references.items()}
        if file.caption_pictures is not None:
            places["captions: pictures"] = file.caption_pictures
        for entry, place in places.items():
            if (count := len(pictures_in(place))) < LEAST:
                raise WrongConcepts(
                    f"--concepts {file.path}: {entry}: {place} has {count} pictures ({', '.join(ENDINGS)}); it must "
                    f"have at least {LEAST}"
                )

    @cached_property
    def _paths(self) -> dict[str, tuple[Path, ...]]:
        """Concept -> its pictures, sorted by name."""
        found = {}
        for concept, place in self.file.references.items():
            found[concept] = pictures_in(place)
        return found

    def protocol(self, usual: Protocol) -> Protocol:
        """`usual` with as many reference pictures as the smallest folder has, at most MOST."""
        if not self._paths:
            return usual
        fewest = min(len(paths) for paths in self._paths.values())
        return dataclasses.replace(usual, reference_per_concept=min(fewest, MOST))

    def pictures(self, concept: str, count: int, pipeline: Path) -> torch.Tensor:
        """The first `count` pictures of a concept, uint8 (count, 3, side, side), in the size of the pipeline's images.

        Raises NotImplementedError for a concept without a folder, and WorldUnavailable for too few or damaged pictures.
        """
        if concept not in self._paths:
            raise NotImplementedError
        paths = self._paths[concept]
        if len(paths) < count:
            raise WorldUnavailable(
                f"{self.file.references[concept]} has {len(paths)} pictures of {concept!r}, not {count}; add some, or "
                f"give --set protocol.reference_per_concept={len(paths)}"
            )
        return torch.stack([pictures.picture(path, side_of(pipeline)) for path in paths[:count]])

    def key(self, concept: str, count: int | None, pipeline: Path) -> list[object] | None:
        """What identifies the first `count` pictures of a concept, or all of them; None without a folder."""
        if concept not in self._paths:
            return None
        return identity(self._paths[concept][:count], pipeline)

    def of_captions(self, pipeline: Path) -> torch.Tensor | None:
        """The pictures for captions, uint8 (R, 3, side, side); None without a folder."""
        if self.file.caption_pictures is None:
            return None
        side = side_of(pipeline)
        return torch.stack([pictures.picture(path, side) for path in pictures_in(self.file.caption_pictures)])

    def key_of_captions(self, pipeline: Path) -> list[object] | None:
        """What identifies these pictures; None without a folder."""
        place = self.file.caption_pictures
        return None if place is None else identity(pictures_in(place), pipeline)

    def described(self) -> dict[str, str]:
        """Which concepts have reference pictures, for the reports; empty if none has."""
        if not self._paths:
            return {}
        return {"reference pictures": f"of {len(self._paths)} of {len(self.file.concepts)} concepts, from folders"}


def pictures_in(place: Path) -> tuple[Path, ...]:
    """The files of a folder whose endings are those of pictures, sorted by name."""
    return tuple(place / name for name in data_folder.names(place, place) if name.lower().endswith(ENDINGS))


def identity(paths: Sequence[Path], pipeline: Path) -> list[object]:
    """Names and digests of pictures, their size, and the version of the code that reads them, for cache keys."""
    files = [[path.name, digest.of_file(path)] for path in paths]
    return [*files, side_of(pipeline), digest.of_module(pictures)]


def side_of(pipeline: Path) -> int:
    """The shorter side of a pipeline's images, in pixels."""
    return min(folder.picture_size(pipeline))
