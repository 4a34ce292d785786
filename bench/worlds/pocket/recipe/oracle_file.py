"""The file of an oracle: its path, its facts, and the check that it belongs to the committed weights.

The tensors of an oracle are a safetensors file in bfloat16, compressed by xz. The compression reduces a weight from 16
bits to 11 bits. Without the compression, three oracles would take more space than all other weights together. A JSON
file beside the tensors holds the facts of the oracle and the digest of the file with the tensors. The JSON file is
written last. The plan of a board reads only the JSON file and does not decompress the tensors.
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

SPECIES = ("pembroke corgi", "tea rose", "toucan")  # one species of a pair of twins in each domain
VARIABLE = "LETHE_ORACLES"
NONE = "none"  # the value of the variable for boards without oracles
COMMITTED = weights.WEIGHTS / "oracles"
COMMAND = "python -m bench.worlds.pocket.recipe.oracle"
HINT = f"`{COMMAND}` builds them, in about two hours each on a core"

# the facts of an oracle: key -> words in messages
FACTS = {
    "species": "species left out",
    "base": "digest of the base weights",
    "drawing": "digest of the drawing",
    "recipe": "digest of the recipe",
    "steps": "steps",
}
SHA256 = "sha256"  # key in the JSON file: the digest of the file with the tensors
# A bfloat16 number has two bytes. Only the second byte (sign and exponent) repeats often. With lp=1 xz models the first
# bytes and the second bytes separately.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]


def folder() -> Path:
    """The folder for new oracles: the folder that the environment variable names, otherwise the committed folder."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named and named != NONE else COMMITTED


def folders() -> tuple[Path, ...]:
    """The folders in which boards search for oracles, in this order. () if the environment variable is "none"."""
    return () if os.environ.get(VARIABLE) == NONE else tuple(dict.fromkeys((folder(), COMMITTED)))


def slug(species: str) -> str:
    """The name of a species for file names: hyphens replace the spaces."""
    return species.replace(" ", "-")


def place(species: str, within: Path) -> Path:
    """The path of the oracle of `species` in the folder `within`."""
    return within / f"{slug(species)}.safetensors.xz"


def beside(file: Path) -> Path:
    """The path of the JSON file with the facts of an oracle's file."""
    return file.with_name(file.name.partition(".")[0] + ".json")


def facts(species: str, recipe: Recipe) -> dict[str, str]:
    """The facts of an oracle that this checkout builds with `recipe`. The keys are those of FACTS."""
    return {
        "species": species,
        "base": _base(),
        "drawing": dataset.drawing_digest(),
        "recipe": digest.of_json(dataclasses.asdict(recipe)),
        "steps": str(recipe.unet.steps),
    }


def wanted(species: str) -> dict[str, str]:
    """The facts of an oracle that belongs to the committed weights: it has their drawing and their recipe."""
    known = weights.manifest()
    return {
        "species": species,
        "base": _base(),
        "drawing": known["drawing"],
        "recipe": digest.of_json(known["recipe"]),
        "steps": str(known["recipe"]["unet"]["steps"]),
    }


def unlike(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """A message with the facts of `found` that differ from `expected`; "" if they are equal."""
    told = [
        f"{noun} {str(found.get(key, 'missing'))[:16]!r}, not {expected[key][:16]!r}"
        for key, noun in FACTS.items()
        if found.get(key) != expected[key]
    ]
    return "; ".join(told)


def save(tensors: Mapping[str, torch.Tensor], about: Mapping[str, str], file: Path) -> None:
    """Write `tensors` in bf16 to `file`, and the facts `about` them to the JSON file beside it.

    The JSON file is written last. If it exists, the file with the tensors is complete.
    """
    stored = {n: (t.bfloat16() if t.is_floating_point() else t).cpu().contiguous() for n, t in tensors.items()}
    whole = lzma.compress(serialised(stored), filters=XZ)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside(file).unlink(missing_ok=True)
    _put(whole, file)
    _put(json.dumps({**about, SHA256: hashlib.sha256(whole).hexdigest()}, indent=1).encode() + b"\n", beside(file))


def require(file: Path, species: str) -> None:
    """Raise WorldUnavailable unless `file` is undamaged and is the oracle of `species` for the committed weights."""
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
    """The file of the oracle of `species` in `folders()`, or None if it was not built. Raises like `require`."""
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
    """The digest of the committed pipeline. The oracle and the other rows of a board start from this pipeline."""
    files: dict[str, str] = weights.manifest()["files"]
    return digest.of_json({name: known for name, known in files.items() if name.startswith("pipeline/")})


def _rebuild(species: str) -> str:
    return f"This builds it anew: {COMMAND} --species {shlex.quote(species)}"
