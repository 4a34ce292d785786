"""An oracle's file: where it lies, what it says of itself, and whether it belongs to the committed weights."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from bench import digest
from bench.worlds.base import WorldUnavailable

from . import dataset, weights
from .recipe import Recipe

SPECIES = ("pembroke corgi", "tea rose", "toucan")  # one of a pair of near twins in each domain
VARIABLE = "LETHE_ORACLES"
COMMAND = "python -m bench.worlds.pocket.oracle"
HINT = f"`{COMMAND}` builds them, in about an hour and a half each on a core"

# what a file says of itself, as people read it
FACTS = {
    "species": "species left out",
    "base": "digest of the base weights",
    "drawing": "digest of the drawing",
    "recipe": "digest of the recipe",
    "steps": "steps",
}
CONTENT = "content"  # digest of the tensors, among these facts


def folder() -> Path:
    """Where boards look: the folder that the environment variable names, or `oracles` beside the committed weights."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else weights.WEIGHTS / "oracles"


def slug(species: str) -> str:
    """A species' name in names of files."""
    return species.replace(" ", "-")


def place(species: str, within: Path) -> Path:
    """The file of a species' oracle in a folder."""
    return within / f"{slug(species)}.safetensors"


def facts(species: str, recipe: Recipe) -> dict[str, str]:
    """What an oracle that is built here and now by `recipe` has to say, by the keys of FACTS."""
    return {
        "species": species,
        "base": _base(),
        "drawing": dataset.drawing_digest(),
        "recipe": digest.of_json(dataclasses.asdict(recipe)),
        "steps": str(recipe.unet.steps),
    }


def wanted(species: str) -> dict[str, str]:
    """What the oracle that belongs to the committed weights says: drawn and trained as they were."""
    known = weights.manifest()
    return {
        "species": species,
        "base": _base(),
        "drawing": known["drawing"],
        "recipe": digest.of_json(known["recipe"]),
        "steps": str(known["recipe"]["unet"]["steps"]),
    }


def unlike(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """In what the facts of `found` are not those expected, for people; "" where they are."""
    told = [
        f"{noun} {found.get(key, 'missing')[:16]!r}, not {expected[key][:16]!r}"
        for key, noun in FACTS.items()
        if found.get(key) != expected[key]
    ]
    return "; ".join(told)


def save(tensors: Mapping[str, torch.Tensor], about: Mapping[str, str], file: Path) -> None:
    """Write `tensors` in fp16 with what is to be known `about` them; `file` appears whole or not at all."""
    stored = {n: (t.half() if t.is_floating_point() else t).cpu().contiguous() for n, t in tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    save_file(stored, draft, {**about, CONTENT: digest.of_tensors(stored)})
    os.replace(draft, file)


def require(file: Path, species: str) -> None:
    """Raises WorldUnavailable unless `file` is whole, and the oracle of `species` beside the committed weights."""
    try:
        with safe_open(file, "pt") as opened:
            found = opened.metadata() or {}
        if wrong := unlike(found, wanted(species)):
            raise WorldUnavailable(f"{file} is not the oracle that boards want: {wrong}. {_rebuild(species)}")
        content = digest.of_tensors(load_file(file))
    except (OSError, SafetensorError) as error:
        raise WorldUnavailable(f"{file} is damaged: {error}. {_rebuild(species)}") from error
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error
    if content != found.get(CONTENT):
        expected = found.get(CONTENT, "none")
        raise WorldUnavailable(
            f"{file} is damaged: expected tensors of digest {expected}, found {content}. {_rebuild(species)}"
        )


def find(species: str) -> Path | None:
    """The oracle of `species` where boards look, or None if it was not built. Raises what `require` raises."""
    file = place(species, folder())
    if not file.is_file():
        return None
    require(file, species)
    return file


def _base() -> str:
    """Digest of the committed pipeline: what the judges, a board's other rows and an oracle have in common."""
    files: dict[str, str] = weights.manifest()["files"]
    return digest.of_json({name: known for name, known in files.items() if name.startswith("pipeline/")})


def _rebuild(species: str) -> str:
    return f"This builds it anew: {COMMAND} --species {shlex.quote(species)}"
