"""Lists of words among which neighbours of a concept are sought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.worlds.base import Split
from bench.worlds.own.defaults import POCKET

PAINTERS = Path(__file__).parent / "painters.txt"
OF_A_PAINTER: Mapping[Split, tuple[str, ...]] = {
    "forget": (
        "a painting in the style of {concept}",
        "a landscape painted by {concept}",
        "art by {concept}",
        "an early work of {concept}",
        "a still life in the manner of {concept}",
    ),
    "evaluate": (
        "a picture by {concept}",
        "a portrait painted by {concept}",
        "a museum wall with a painting by {concept}",
        "a city in the style of {concept}",
    ),
}


@dataclass(frozen=True)
class WordList:
    """Words of one kind.

    Args:
        kind: the noun that stands for each of them, and the name of their domain.
        words: the words.
        prompts: templates that suit them; {} for the usual ones, of photos.
    """

    kind: str
    words: tuple[str, ...]
    prompts: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)


def lists_for(backbone: str) -> tuple[WordList, ...]:
    """The lists for a backbone: painters and ImageNet's 1000 classes, or the pocket world's words for its model."""
    if backbone == POCKET:
        from bench.worlds.pocket.world import POCKET as WORLD

        return tuple(WordList(domain, members) for domain, members in WORLD.domains.items())
    from open_clip import IMAGENET_CLASSNAMES  # importing open_clip takes seconds

    things = tuple(dict.fromkeys(IMAGENET_CLASSNAMES))
    painters = tuple(PAINTERS.read_text(encoding="utf-8").split("\n")[:-1])
    return WordList("thing", things), WordList("painter", painters, OF_A_PAINTER)
