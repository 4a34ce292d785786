"""An oracle's file: where it lies, what is known of it, and whether it belongs to the committed weights.

Its tensors are a safetensors file in bfloat16, compressed by xz: of 16 bits a weight 11 remain, without which three
oracles would take more room than all other weights together. A JSON file beside it, written last, says what it is and
has its digest: a board that is being planned need not decompress it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as serialised

from bench.core import digest
from bench.worlds.base import WorldUnavailable
from bench.worlds.pocket import weights
from bench.worlds.pocket.drawing import dataset
from bench.worlds.pocket.recipe.settings import Recipe

SPECIES = ("pembroke corgi", "tea rose", "toucan")  # one of a pair of near twins in each domain
VARIABLE = "LETHE_ORACLES"
NONE = "none"  # its value for boards without oracles
COMMITTED = weights.WEIGHTS / "oracles"
COMMAND = "python -m bench.worlds.pocket.recipe.oracle"
HINT = f"`{COMMAND}` builds them, in about two hours each on a core"

# what is known of a file, as people read it
FACTS = {
    "species": "species left out",
    "base": "digest of the base weights",
    "drawing": "digest of the drawing",
    "recipe": "digest of the recipe",
    "steps": "steps",
}
SHA256 = "sha256"  # of the file, beside these facts
# of two bytes a number the second, sign and exponent, is the one that repeats: predict each from its own kind
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]


def folder() -> Path:
    """Where oracles are built: the folder that the environment variable names, or else that of the committed ones."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named and named != NONE else COMMITTED


def folders() -> tuple[Path, ...]:
    """Where boards look for a species, in this order: nowhere with "none" for the environment variable."""
    return () if os.environ.get(VARIABLE) == NONE else tuple(dict.fromkeys((folder(), COMMITTED)))


def slug(species: str) -> str:
    """A species' name in names of files."""
    return species.replace(" ", "-")


def place(species: str, within: Path) -> Path:
    """The file of a species' oracle in a folder."""
    return within / f"{slug(species)}.safetensors.xz"


def beside(file: Path) -> Path:
    """Where it stands what an oracle's file is."""
    return file.with_name(file.name.partition(".")[0] + ".json")


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
        f"{noun} {str(found.get(key, 'missing'))[:16]!r}, not {expected[key][:16]!r}"
        for key, noun in FACTS.items()
        if found.get(key) != expected[key]
    ]
    return "; ".join(told)


def save(tensors: Mapping[str, torch.Tensor], about: Mapping[str, str], file: Path) -> None:
    """Write `tensors` in bf16, and `about` them beside it; that appears last, so that what it speaks of is whole."""
    stored = {n: (t.bfloat16() if t.is_floating_point() else t).cpu().contiguous() for n, t in tensors.items()}
    whole = lzma.compress(serialised(stored), filters=XZ)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside(file).unlink(missing_ok=True)
    _put(whole, file)
    _put(json.dumps({**about, SHA256: hashlib.sha256(whole).hexdigest()}, indent=1).encode() + b"\n", beside(file))


def require(file: Path, species: str) -> None:
    """Raises WorldUnavailable unless `file` is whole, and the oracle of `species` beside the committed weights."""
    try:
        found = json.loads(beside(file).read_text())
        if not isinstance(found, dict):
            raise ValueError(f"{beside(file).name} has {str(found)[:20]!r} where an object is expected")
        if wrong := unlike(found, wanted(species)):
            raise WorldUnavailable(f"{file} is not the oracle that boards want: {wrong}. {_rebuild(species)}")
        content = digest.of_file(file)
    except (OSError, ValueError) as error:
        raise WorldUnavailable(f"{file} is damaged: {error}. {_rebuild(species)}") from error
    except weights.WeightsError as error:
        raise WorldUnavailable(str(error)) from error
    if content != found.get(SHA256):
        expected = found.get(SHA256, "none")
        raise WorldUnavailable(f"{file} is damaged: expected sha256 {expected}, found {content}. {_rebuild(species)}")


def find(species: str) -> Path | None:
    """The oracle of `species` where boards look, or None if it was not built. Raises what `require` raises."""
    for file in (place(species, within) for within in folders()):
        if file.is_file() or beside(file).is_file():
            require(file, species)
            return file
    return None


def _put(content: bytes, file: Path) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content)
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _base() -> str:
    """Digest of the committed pipeline: what the judges, a board's other rows and an oracle have in common."""
    files: dict[str, str] = weights.manifest()["files"]
    return digest.of_json({name: known for name, known in files.items() if name.startswith("pipeline/")})


def _rebuild(species: str) -> str:
    return f"This builds it anew: {COMMAND} --species {shlex.quote(species)}"
