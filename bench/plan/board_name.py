"""The name of a board: the stem of every file that a run writes.

Two runs whose figures would not compare write boards of different names. What only adds rows or columns to a board
(methods, training seeds, metrics, a curve) is not in its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.backbones import folder
from bench.core import digest
from bench.core.filenames import HEAD, last_part, without_folders
from bench.plan.plan import Plan
from bench.plan.settings import changed

MAX_NAME_LENGTH = 80  # letters of a name, without "-quick"
DIGITS = 8  # hex digits of the digest that tells apart names whose words are the same
QUICK = "quick"
CONCEPT = re.compile(r"[a-z0-9]+( [a-z0-9]+)*")  # a concept that its words in a name stand for without doubt
TAKEN = re.compile(r"compile|sweep.*|neighbours.*|judge.*|clip.*|k\d.*")  # words that begin another part of a name
ENDS = re.compile(r"-(cells|concepts|curve|recovery|quick)$")  # endings that another file or board has


@dataclass(frozen=True)
class Part:
    """One setting in the name of a board.

    Args:
        words: for people; letters that file names should not have become hyphens.
        value: what is named, in JSON's types: two parts are the same if this is.
        plain: whether the words say all of the value, so that the name needs no digest for it.
    """

    words: str
    value: Any = None
    plain: bool = field(default=True)

    @property
    def slug(self) -> str:
        """The words as they stand in a file's name."""
        return re.sub(r"[^a-z0-9.+_]+", "-", self.words.lower()).strip("-.")

    @property
    def is_exact(self) -> bool:
        """Whether no other setting has this slug."""
        return self.plain and self.slug == self.words


def board_name(plan: Plan) -> str:
    """The stem of every file that the run of `plan` writes.

    It has the suite and the world; the backbone, judges, neighbours and CLIP model if the run names them; the concepts,
    counts and sweeps that the run asks for; every setting of the protocol and of a method that the run changes; and
    "quick". A digest of these settings follows where the words alone do not tell two boards apart, such as two
    backbones in folders of the same name, and where the name would be longer than MAX_NAME_LENGTH.

    The files of an explicitly named backbone are read once for their digest.
    """
    parts = [*_parts(plan)]
    name = "-".join(part.slug for part in parts if part.slug)
    if len(name) > MAX_NAME_LENGTH or ENDS.search(name) or not all(part.is_exact for part in parts):
        told_apart = digest.of_json([part.value or part.words for part in parts])[:DIGITS]
        name = f"{name[: MAX_NAME_LENGTH - DIGITS - 1].rstrip('-.+')}-{told_apart}"
    return f"{name}-{QUICK}" if plan.run.quick else name


def _parts(plan: Plan) -> Iterator[Part]:
    run = plan.run
    yield Part(run.suite)
    yield Part(run.world)
    if run.backbone is not None:
        name = last_part(run.backbone).removesuffix(".safetensors")
        yield Part(name, ["backbone", folder.content(plan.folder)], plain=False)
    if run.several:
        yield Part(f"k{'+'.join(map(str, run.several))}")
    if run.forget:
        plain = all(CONCEPT.fullmatch(concept) for concept in run.forget) and not TAKEN.fullmatch(run.forget[0])
        yield Part("+".join(run.forget).replace(" ", "-"), ["forget", *run.forget], plain)
    for method, fields in run.sweep.items():
        yield from (Part(f"sweep-{method}.{name}") for name in fields)
    if run.neighbours is not None:
        yield Part(f"neighbours-{run.neighbours}")
    for judge in run.judges:
        yield Part(f"judge-{without_folders(judge)}", ["judge", *by_content(judge)], plain=False)
    if run.clip is not None:
        yield Part(f"clip-{without_folders(run.clip, model=True)}", ["clip", *by_content(run.clip)])
    if run.compile:
        yield Part("compile")
    for section, name, value in sorted(changed(plan), key=lambda each: each[:2]):
        words = str(value).lower() if isinstance(value, bool | None) else str(value)
        yield Part(f"{section}.{name}-{words}", [section, name, value])


def by_content(spec: str) -> list[str]:
    """What a judge or a CLIP model is: its name, and the digest of its file where `spec` names a file."""
    found = HEAD.fullmatch(spec)
    place = found.group(2) if found else spec
    for candidate in (place, place.partition("/")[2]):
        if candidate and (file := Path(candidate).expanduser()).is_file():
            return [without_folders(spec.removesuffix(candidate)), digest.of_file(file)]
    return [spec]
