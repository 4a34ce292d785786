"""The table of the pocket world's species. A species is a row of attributes.

Siblings share attributes. `twin` is the name of the sibling whose row is nearly the same. `noun` is the head noun, and
twins may share it: "a photo of a retriever" asks for either retriever. Colours are sRGB, 0..255.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

from bench.worlds.pocket.drawing.pen import Colour


@dataclass(frozen=True)
class Dog:
    """A dog in side view. `coat` is the main colour, and `second` is the colour of the markings."""

    name: str
    noun: str
    twin: str | None
    ears: str  # drop | pricked | round | long
    coat: Colour
    second: Colour
    markings: str  # plain | bib | mask | saddle | spots
    fur: str  # smooth | feathered | thick | curly
    muzzle: str  # fine | medium | blunt
    legs: str  # short | medium | long
    tail: str  # thin | plume | curled | brush | bob | pompom


@dataclass(frozen=True)
class Flower:
    """A flower on its stem. `petal` is the main colour, and `second` is the colour of petal tips, bases or veins."""

    name: str
    noun: str
    twin: str | None
    petals: int
    shape: str  # swirl | bowl | strap | cup | fringe
    petal: Colour
    second: Colour
    centre: str  # none | button | dome | dark | stamens
    heart: Colour  # colour of the centre
    leaves: str  # toothed | feathery | oval | blade


@dataclass(frozen=True)
class Bird:
    """A perched bird. `back`, `belly` and `mark` are its three main colours. Only the owl faces the viewer."""

    name: str
    noun: str
    twin: str | None
    beak: str  # straight | cone | spear | huge | hooked
    crest: str  # none | tall | casque
    body: str  # slim | round | stout | upright
    back: Colour
    belly: Colour
    mark: Colour
    marking: str  # collar | cap | bib | cheek | face
    wing: str  # barred | plain | edged | spotted
    tail: str  # long | notched | stub | square


Species = Dog | Flower | Bird

# fmt: off
DOGS = (
    Dog("golden retriever", "retriever", "labrador retriever",
        "drop", (226, 158, 66), (244, 204, 134), "plain", "feathered", "medium", "long", "plume"),
    Dog("labrador retriever", "retriever", "golden retriever",
        "drop", (150, 94, 56), (206, 152, 104), "plain", "smooth", "medium", "long", "thin"),
    Dog("pembroke corgi", "corgi", "cardigan corgi",
        "pricked", (236, 140, 48), (255, 250, 240), "bib", "smooth", "fine", "short", "bob"),
    Dog("cardigan corgi", "corgi", "pembroke corgi",
        "round", (140, 78, 44), (255, 250, 240), "bib", "smooth", "fine", "short", "brush"),
    Dog("siberian husky", "husky", "alaskan malamute",
        "pricked", (122, 138, 164), (250, 250, 252), "mask", "thick", "medium", "medium", "curled"),
    Dog("alaskan malamute", "malamute", "siberian husky",
        "pricked", (66, 60, 62), (250, 246, 238), "mask", "thick", "blunt", "medium", "plume"),
    Dog("dalmatian", "dalmatian", None,
        "drop", (250, 250, 250), (34, 32, 38), "spots", "smooth", "medium", "long", "thin"),
    Dog("poodle", "poodle", None,
        "long", (238, 168, 182), (255, 232, 232), "plain", "curly", "fine", "long", "pompom"),
)

FLOWERS = (
    Flower("red rose", "rose", "tea rose",
           9, "swirl", (196, 26, 52), (138, 12, 36), "none", (120, 8, 30), "toothed"),
    Flower("tea rose", "rose", "red rose",
           7, "swirl", (248, 178, 140), (232, 128, 108), "none", (226, 110, 90), "toothed"),
    Flower("field poppy", "poppy", "iceland poppy",
           4, "bowl", (226, 40, 32), (40, 24, 34), "dark", (34, 28, 36), "feathery"),
    Flower("iceland poppy", "poppy", "field poppy",
           5, "bowl", (250, 160, 36), (255, 206, 96), "stamens", (250, 228, 96), "feathery"),
    Flower("daisy", "daisy", "chamomile",
           14, "strap", (252, 252, 250), (224, 226, 238), "button", (250, 206, 44), "oval"),
    Flower("chamomile", "chamomile", "daisy",
           9, "strap", (250, 250, 244), (222, 222, 226), "dome", (244, 168, 30), "oval"),
    Flower("tulip", "tulip", None,
           3, "cup", (238, 82, 148), (252, 150, 190), "none", (250, 220, 120), "blade"),
    Flower("cornflower", "cornflower", None,
           10, "fringe", (54, 92, 216), (40, 58, 160), "button", (96, 60, 150), "blade"),
)

BIRDS = (
    Bird("blue jay", "jay", "grey jay",
         "straight", "tall", "slim", (48, 110, 208), (242, 244, 248), (26, 30, 52), "collar", "barred", "long"),
    Bird("grey jay", "jay", "blue jay",
         "straight", "none", "slim", (128, 134, 146), (236, 234, 230), (52, 54, 64), "cap", "plain", "long"),
    Bird("house finch", "finch", "gold finch",
         "cone", "none", "round", (130, 92, 74), (222, 196, 176), (204, 44, 56), "bib", "edged", "notched"),
    Bird("gold finch", "finch", "house finch",
         "cone", "none", "round", (250, 208, 44), (250, 208, 44), (24, 24, 28), "cap", "barred", "notched"),
    Bird("toucan", "toucan", "hornbill",
         "huge", "none", "stout", (28, 28, 34), (28, 28, 34), (252, 246, 222), "bib", "plain", "square"),
    Bird("hornbill", "hornbill", "toucan",
         "huge", "casque", "stout", (28, 28, 34), (250, 248, 240), (28, 28, 34), "bib", "plain", "long"),
    Bird("kingfisher", "kingfisher", None,
         "spear", "none", "stout", (18, 140, 170), (240, 138, 48), (250, 250, 250), "cheek", "spotted", "stub"),
    Bird("barn owl", "owl", None,
         "hooked", "none", "upright", (206, 158, 92), (250, 244, 230), (252, 250, 244), "face", "spotted", "square"),
)
# fmt: on

DOMAINS: dict[str, tuple[Species, ...]] = {"dog": DOGS, "flower": FLOWERS, "bird": BIRDS}
SPECIES: dict[str, Species] = {s.name: s for rows in DOMAINS.values() for s in rows}
DOMAIN_OF: dict[str, str] = {s.name: domain for domain, rows in DOMAINS.items() for s in rows}
NAMES: tuple[str, ...] = tuple(SPECIES)  # the label order of every species judge


def find(name: str) -> Species:
    """The row of the species `name`.

    Raises ValueError for an unknown name. The error lists the nearest known species and all species.
    """
    if name in SPECIES:
        return SPECIES[name]
    near = difflib.get_close_matches(name.lower(), NAMES, n=3, cutoff=0.4) or NAMES[:3]
    raise ValueError(
        f"unknown species {name!r}; nearest known: {', '.join(near)} (all {len(NAMES)}: {', '.join(NAMES)})"
    )


def attribute_distance(a: Species, b: Species) -> float:
    """The share of attributes in which two rows differ, from 0 (same) to 1.

    Two words add 0 if they are equal and 1 if they differ. Two numbers of petals add a tenth of their difference, at
    most 1. Two colours add their distance in RGB divided by half the diagonal of the RGB cube, at most 1. The result is
    the mean over the attributes. The distance of species of different domains is 1.0.
    """
    if type(a) is not type(b):
        return 1.0
    parts = []
    for f in fields(a):
        if f.name in ("name", "noun", "twin"):
            continue
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, tuple):
            apart = sum((i - j) ** 2 for i, j in zip(x, y, strict=True)) ** 0.5
            parts.append(min(1.0, apart / (0.5 * 3**0.5 * 255)))
        elif isinstance(x, int):
            parts.append(min(1.0, abs(x - y) / 10))
        else:
            parts.append(float(x != y))
    return sum(parts) / len(parts)
