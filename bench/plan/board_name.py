"""The name of a board: the stem of every file that a run writes.

Two runs write boards of different names if their figures cannot be compared. Some fields of a run only add rows or
columns to a board: methods, training seeds, metrics and a curve. The name does not contain these fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.backbones import folder
from bench.core import digest
from bench.core.filenames import DIGITS, HEAD, MAX_STEM, last_part, slugged, without_folders
from bench.core.flags import Flag, defaults_of, flags_of
from bench.core.overrides import Overrides, Sweep
from bench.plan.plan import Plan
from bench.plan.settings import changed

QUICK = "quick"
CONCEPT = re.compile(r"[a-z0-9]+( [a-z0-9]+)*")  # a concept whose words in a name are unambiguous
TAKEN = re.compile(r"compile|sweep.*|neighbours.*|judge.*|clip.*|k\d.*")  # words that begin other parts of a name
ENDS = re.compile(r"-(cells|concepts|curve|recovery|quick)$")  # endings of the names of other files or boards


@dataclass(frozen=True)
class Part:
    """One setting in the name of a board.

    Args:
        words: the setting as text, for people. `slug` replaces characters that file names should not have by hyphens.
        value: the setting in JSON's types. Two parts name the same setting if their values are equal. If it is not
            given, `words` is the value.
        plain: whether the words contain the whole value. If not, the name needs a digest of the value.
    """

    words: str
    value: Any = None
    plain: bool = field(default=True)

    @property
    def slug(self) -> str:
        """The words in the form for a file's name: lower-case letters, digits, ".", "+", "_" and hyphens."""
        return slugged(self.words)

    @property
    def is_exact(self) -> bool:
        """Whether this slug identifies the setting, so that every other setting has another slug."""
        return self.plain and self.slug == self.words


def board_name(plan: Plan) -> str:
    """The stem of every file that the run of `plan` writes.

    The name contains:

    - the suite and the world,
    - the backbone, the judges, the neighbours and the CLIP model if the run names them,
    - the concepts, the counts and the sweeps that the run asks for,
    - every setting of the protocol and of a method that the run changes,
    - "quick" for a quick run.

    A digest of these settings is added if the words alone do not identify the board, for example if two backbones are
    in folders of the same name. It is also added if the name would be longer than MAX_STEM, or if the name has
    the ending of another file.

    If the run names a backbone, its files are read once for their digest.
    """
    parts = [*_parts(plan)]
    name = "-".join(part.slug for part in parts if part.slug)
    if len(name) > MAX_STEM or ENDS.search(name) or not all(part.is_exact for part in parts):
        told_apart = digest.of_json([part.value or part.words for part in parts])[:DIGITS]
        name = f"{name[: MAX_STEM - DIGITS - 1].rstrip('-.+')}-{told_apart}"
    return f"{name}-{QUICK}" if plan.run.quick else name


def _parts(plan: Plan) -> Iterator[Part]:
    """The parts for the fields of the run, in the order that their flags declare. "quick" is left out."""
    known = {name: flag for name, flag in flags_of(type(plan.run)).items() if flag.board is not None}
    usual = defaults_of(type(plan.run))
    for name in sorted(known, key=lambda each: known[each].board or 0):
        value = getattr(plan.run, name)
        if name in ALWAYS:
            yield Part(plan.run.world_name if name == "world" else value)
        elif value != usual[name] and name != QUICK:
            yield from PARTS.get(name, _named(known[name]))(plan, value)


def _named(flag: Flag) -> Callable[[Plan, Any], Iterator[Part]]:
    """The function that makes the part of a field that is not in `PARTS`.

    The part has the name of the flag. It also has the value, unless the flag is a switch.
    """

    def parts(plan: Plan, value: Any) -> Iterator[Part]:
        yield Part(flag.name if flag.switch else "-".join([flag.name, *flag.write(value)]))

    return parts


def _backbone(plan: Plan, source: str) -> Iterator[Part]:
    name = last_part(source).removesuffix(".safetensors")
    yield Part(name, ["backbone", folder.content(plan.folder)], plain=False)


def _concepts(plan: Plan, file: Path) -> Iterator[Part]:
    yield Part(file.stem, ["concepts", digest.of_file(file)], plain=False)


def _forget(plan: Plan, concepts: tuple[str, ...]) -> Iterator[Part]:
    plain = all(CONCEPT.fullmatch(concept) for concept in concepts) and not TAKEN.fullmatch(concepts[0])
    yield Part("+".join(concepts).replace(" ", "-"), ["forget", *concepts], plain)


def _several(plan: Plan, counts: tuple[int, ...]) -> Iterator[Part]:
    yield Part(f"k{'+'.join(map(str, counts))}")


def _sweep(plan: Plan, sweep: Sweep) -> Iterator[Part]:
    for method, fields in sweep.items():
        yield from (Part(f"sweep-{method}.{name}") for name in fields)


def _judges(plan: Plan, judges: tuple[str, ...]) -> Iterator[Part]:
    for judge in judges:
        yield Part(f"judge-{without_folders(judge)}", ["judge", *by_content(judge)], plain=False)


def _clip(plan: Plan, model: str) -> Iterator[Part]:
    yield Part(f"clip-{without_folders(model, model=True)}", ["clip", *by_content(model)])


def _overrides(plan: Plan, changes: Overrides) -> Iterator[Part]:
    for section, name, value in sorted(changed(plan), key=lambda each: each[:2]):
        words = str(value).lower() if isinstance(value, bool | None) else str(value)
        yield Part(f"{section}.{name}-{words}", [section, name, value])


def by_content(spec: str) -> list[str]:
    """The identity of a judge or a CLIP model, as a list of strings.

    If `spec` names a file, the list has the part of `spec` before the path, and the digest of the file. Otherwise the
    list has `spec` alone.
    """
    found = HEAD.fullmatch(spec)
    place = found.group(2) if found else spec
    for candidate in (place, place.partition("/")[2]):
        if candidate and (file := Path(candidate).expanduser()).is_file():
            return [without_folders(spec.removesuffix(candidate)), digest.of_file(file)]
    return [spec]


ALWAYS = ("suite", "world")  # fields that every name contains
# Field -> function that makes its parts. All other fields use `_named`.
PARTS: dict[str, Callable[[Plan, Any], Iterator[Part]]] = {
    "concepts": _concepts,
    "backbone": _backbone,
    "forget": _forget,
    "several": _several,
    "sweep": _sweep,
    "judges": _judges,
    "clip": _clip,
    "overrides": _overrides,
}
