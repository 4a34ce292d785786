"""Perched birds. Seven birds are drawn from the side, the owl from the front. One row of attributes defines a bird.

Every part has its own frame (a child pen), so a few angles define a pose. The body leans about the feet, the head tilts
about its centre, and the wing and the tail swing about their roots. Some styles remove all hues. Twins therefore differ
in silhouette (crest, bill, tail) and in pattern (bars, streaks), not only in colour.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from bench.worlds.pocket.drawing.pen import Colour, Pen, Point, darker, lighter, mix
from bench.worlds.pocket.drawing.species import Bird

DARK: Colour = (26, 22, 30)
WHITE: Colour = (252, 252, 250)
LINE = 0.95  # width of outlines in image units; they must stay visible at 64 px


@dataclass(frozen=True)
class Build:
    """The anatomy of a bird in side view. The origin is at its feet, and the bird faces +x."""

    body: tuple[Point, ...]  # closed outline, from the nape down the back and up the front
    seam: tuple[Point, ...]  # inner edge of the belly patch; its outer edge is `body` from point 4 on
    head: Point
    skull: float  # radius of the head
    wing: tuple[Point, float, float]  # shoulder, angle (0 hangs straight down, 90 lies flat to the rear), scale
    tail: tuple[Point, float]  # root, angle
    feet: tuple[float, float]


BUILDS: dict[str, Build] = {
    "slim": Build(
        ((3, -28), (-4, -21), (-9.5, -13), (-11, -6), (-5, -1.6), (2, -1.2), (8.5, -5.5), (11.4, -13), (11.2, -22)),
        ((4, -22), (3, -12)), (6.5, -25.5), 6.6, ((2.5, -19), 50, 0.98), ((-9, -8.5), 56), (-0.5, 4.5),
    ),
    "round": Build(
        ((0, -28), (-6.5, -20), (-10.5, -13), (-10.5, -5.5), (-5, -1.0), (3, -0.8), (10, -5), (12.6, -13), (11, -22)),
        ((4, -20), (3, -12)), (5, -25), 7.9, ((1.5, -18.5), 47, 0.95), ((-9, -7.5), 56), (-0.5, 4.8),
    ),
    "stout": Build(
        ((-3, -28), (-7.5, -21), (-9.5, -13), (-8.5, -5), (-3.5, -0.8), (3, -0.8), (8.6, -6), (10, -14), (9, -23)),
        ((2, -20), (2.2, -11)), (2.5, -26), 8.6, ((0, -18), 33, 0.95), ((-6.5, -5), 36), (-1, 4),
    ),
}  # fmt: skip

# By bill: the x of the bird's feet, and its scale. Birds with long bills stand further back, or the bill would leave
# the image. Each bird is as large as its bill and its tail allow.
STANCE: dict[str, tuple[float, float]] = {
    "straight": (-0.6, 1.04), "cone": (0.8, 1.12), "spear": (-5.0, 1.14), "huge": (-6.0, 1.03),
}  # fmt: skip
LEGS: dict[str, Colour] = {"spear": (226, 84, 44), "huge": (92, 132, 168), "cone": (236, 160, 124)}

# By bill: the outlines of the upper and lower bill in the head's frame, and the colour. The skull has radius 7 there.
BILLS: dict[str, tuple[tuple[Point, ...], tuple[Point, ...], Colour]] = {
    "straight": (((5.2, -2.8), (10.5, -1.4), (14.2, 1), (5.6, 1)), ((5.6, 0.8), (13.2, 1.2), (5.6, 3.2)), (84, 80, 92)),
    "cone": (((5, -3.6), (8.8, -2.4), (12, 1), (5.6, 1)), ((5.6, 0.8), (11, 1), (8, 3.6), (5, 4.2)), (240, 184, 128)),
    "spear": (((5.2, -2.4), (19, 1.0), (5.6, 1.0)), ((5.6, 0.8), (18.2, 1.0), (5.4, 3.6)), (44, 42, 54)),
    "huge": (
        ((4, -5.4), (10, -6.4), (17, -5.2), (21.4, -1.6), (22, 3.6), (19, 1.4), (12, 1.0), (4.4, 1.2)),
        ((4.4, 1.0), (12, 0.8), (20, 1.4), (17, 4.6), (11, 6.4), (4.2, 6.0)), (252, 166, 30),
    ),
}  # fmt: skip

CASQUE: tuple[Point, ...] = ((0.5, -5.4), (2.4, -10.4), (9, -12.2), (16.4, -10.8), (18.2, -7.4), (14, -5.2))

# By marking and body: patches in the head's frame. Each patch has the name of the row's colour that fills it.
PATCHES: dict[tuple[str, str], tuple[tuple[str, tuple[Point, ...]], ...]] = {
    ("bib", "round"): (  # the bib of a finch covers the whole face
        ("mark", ((1.6, -6.2), (5.2, -4), (6, 1), (5.8, 7), (4.2, 11), (0, 10), (-2, 5), (-1.2, 1), (-0.6, -4))),),
    ("bib", "stout"): (
        ("mark", ((-2.4, 0.6), (1.6, -1), (5.8, 0.4), (5.2, 4.4), (5, 9.6), (2.4, 12), (-1, 10.6), (-3.4, 5.6))),),
    ("collar", "slim"): (("belly", ((0.8, -3.4), (5.8, -2.2), (6.2, 2), (4.6, 6), (0, 6), (-2.6, 1.6))),),
    ("cap", "round"): (
        ("mark", ((-3.6, -6), (0, -7), (3.6, -6), (6.4, -2.2), (6, 0), (3.4, -3.4), (-0.4, -3.5), (-3.8, -3.8))),),
    ("cap", "slim"): (  # a pale face below a crown that runs down the nape
        ("belly", ((0, -5), (4.6, -4.8), (6.4, -1), (5.6, 4), (2, 6.6), (-2.4, 5), (-4, 0))),
        ("mark", ((4, -5.6), (0, -7), (-5, -4.8), (-6.8, 0), (-5.6, 4.4), (-3.4, 2), (-2.2, -2), (1, -4))),),
    ("cheek", "stout"): (  # behind the eye, and the chin
        ("mark", ((-1.4, 1.2), (-4, 0), (-6.2, 2.4), (-4.8, 5.8), (-1.6, 5))),
        ("mark", ((0.6, 3), (5.6, 3), (5.6, 6), (2, 7), (0, 5.4))),),
}  # fmt: skip

# The outlines of tails in the tail's frame. The root is at the origin, and the tip points towards +y.
TAILS: dict[str, tuple[Point, ...]] = {
    "long": ((-2.8, -2), (-3.2, 9), (-3.4, 15.5), (0, 17.5), (3.4, 15.5), (3.2, 9), (2.8, -2)),
    "notched": ((-2.4, -2), (-2.8, 6), (-4.4, 13.5), (0, 9.6), (4.4, 13.5), (2.8, 6), (2.4, -2)),
    "stub": ((-3, -2), (-3.2, 5.4), (3.2, 5.4), (3, -2)),
    "square": ((-3.2, -2), (-4.4, 13), (4.4, 13), (3.2, -2)),
}
WING: tuple[Point, ...] = ((0, -3.6), (4.4, -0.8), (5.4, 5), (3.6, 11), (0.4, 17.6), (-3, 12), (-4.8, 5), (-4, -1.2))
# The right half of the owl: its folded wing, and one lobe of its heart-shaped face.
OWL_WING: tuple[Point, ...] = ((7.4, -25), (13, -21), (15, -13), (12.6, -5), (8.6, 1.4), (7.2, -7), (7.2, -16))
OWL_LOBE: tuple[Point, ...] = ((4.6, -8.4), (9.4, -6.2), (10.2, -0.6), (5.8, 5.6))


def joint(pen: Pen, at: Point, turn: float = 0.0, scale: float = 1.0) -> Pen:
    """A child pen with its origin at the point `at` of `pen`. Its frame is turned by `turn` degrees and scaled."""
    c, s = math.cos(math.radians(pen.angle)), math.sin(math.radians(pen.angle))
    x, y = at[0] * c - at[1] * s, at[0] * s + at[1] * c
    flip = -1.0 if pen.mirror else 1.0
    origin = (pen.origin[0] + flip * pen.scale * x, pen.origin[1] + pen.scale * y)
    return Pen(pen.image, origin, pen.scale * scale, pen.angle + turn, pen.mirror)


def flight(row: Bird) -> Colour:
    """The colour of flight feathers and tail: contrasting for barred wings, otherwise a little darker than the back."""
    return row.mark if row.wing == "barred" else darker(row.back, 0.3 if row.wing == "edged" else 0.22)


def eye(pen: Pen, at: Point, radius: float, ring: Colour | None = None) -> None:
    """Draw a dark eye with a glint at its front. `ring` is the colour of a ring around it, for dark heads."""
    if ring is not None:
        pen.ellipse(at, radius + 1, radius + 1, ring)
    pen.ellipse(at, radius, radius, DARK)
    pen.ellipse((at[0] + radius * 0.35, at[1] - radius * 0.4), radius * 0.48, radius * 0.48, WHITE)


def feet(pen: Pen, xs: tuple[float, float], colour: Colour) -> None:
    """Draw two feet with two toes each, hooked over the branch."""
    for x in xs:
        pen.line([(x, -3), (x, -0.6)], 1.5, colour, smooth=False)
        pen.line([(x - 1.1, 2), (x - 0.5, -0.6), (x + 0.5, -0.6), (x + 1.1, 2)], 1.5, colour, smooth=False)


def tail(pen: Pen, row: Bird) -> None:
    """Draw the tail. It is drawn before the body, because the body covers its root."""
    fill, edge = flight(row), darker(row.back, 0.5)
    pen.polygon(TAILS[row.tail], fill, edge, LINE)
    if row.tail == "long" and row.wing == "barred":
        pen.polygon([(-3, 13), (-3, 15.4), (0, 17), (3, 15.4), (3, 13)], WHITE)
    elif row.tail in ("long", "square", "notched"):
        pen.line([(0, 2), (0, 9)], 0.9, edge, smooth=False)


def wing(pen: Pen, row: Bird) -> None:
    """Draw the folded wing with its pattern. Flight feathers have their own colour.

    The shoulder of a barred wing has the colour of the back.
    """
    edge = lighter(row.back, 0.3) if sum(row.back) < 120 else darker(row.back, 0.5)  # black birds have pale lines
    pen.blob(WING, flight(row), edge, LINE)
    if row.wing == "barred":
        pen.blob([(0, -3), (3.8, -0.6), (4.6, 3.2), (0, 4.2), (-4, 3.2), (-3.4, -1)], row.back)
        for y, half in ((4.4, 4.5), (9.2, 3.3)):
            pen.line([(-half, y - 1), (0.3, y + 0.5), (half + 0.4, y - 1)], 1.9, WHITE)
    elif row.wing == "edged":
        for x in (-2.2, 0.5, 3.0):
            pen.line([(x, 2.5), (x * 0.9, 7), (x * 0.55 + 0.1, 12.5 - abs(x))], 1.2, lighter(row.belly, 0.2))
    elif row.wing == "spotted":
        for x, y in ((-1.8, 0.2), (2.2, 1.2), (-1.9, 5.2), (2.2, 6.4), (0, 10.6)):
            pen.ellipse((x, y), 1.15, 1.15, lighter(row.back, 0.72))
    else:
        pen.line([(-2.6, 8), (0.2, 9.4), (2.8, 6.6)], 0.9, edge)


def torso(pen: Pen, build: Build, row: Bird) -> None:
    """Draw body and skull as one silhouette: first both outlines, then both fills, so that no line crosses the neck."""
    edge, r = darker(row.back, 0.5), build.skull
    pen.blob(build.body, row.back, edge, 2 * LINE)
    pen.ellipse(build.head, r, r, edge)
    pen.ellipse(build.head, r - LINE, r - LINE, row.back)
    pen.blob(build.body, row.back)
    pen.blob([*build.body[4:], *build.seam], row.belly)
    if row.wing == "edged":  # the streaked breast distinguishes this finch from its twin without colour
        for x, y in ((5.2, -9.5), (8.4, -10.5), (3.6, -5.4), (7, -5.4)):
            pen.line([(x, y), (x - 0.5, y + 2.4)], 1.3, darker(row.back, 0.1), smooth=False)


def markings(pen: Pen, row: Bird) -> None:
    """Draw the patches of the face and breast, and the dark necklace of the blue jay."""
    for colour, shape in PATCHES[row.marking, row.body]:
        pen.blob(shape, getattr(row, colour))
    if row.marking == "collar":
        pen.line([(-2.4, -3.4), (-3.4, 2), (-0.6, 6.8), (4.8, 7.2)], 2.0, row.mark)


def bill(pen: Pen, row: Bird) -> None:
    """Draw the lower bill, then the upper bill. A huge bill has a black tip and can have a casque."""
    upper, lower, colour = BILLS[row.beak]
    edge = darker(colour, 0.6)
    pen.polygon(lower, mix(colour, (236, 96, 30), 0.45) if row.beak == "huge" else darker(colour, 0.15), edge, 0.8)
    if row.crest == "casque":
        pen.polygon(CASQUE, (250, 226, 150), edge, 0.9)
    pen.polygon(upper, colour, edge, 0.8)
    if row.beak == "huge":
        pen.polygon([(5, -4.4), (10, -5.2), (16, -4.2), (10, -2.6), (5, -2.4)], (255, 222, 84))
        pen.polygon([(17.2, -5.2), (21.4, -1.6), (22, 3.8), (19.6, 2), (16.6, 5), (16, 0)], DARK)


def head(pen: Pen, row: Bird) -> None:
    """Draw crest, markings, bill and eye in the head's frame. The skull has radius 7 around the origin."""
    if row.crest == "tall":
        tuft = [(4.6, -4.6), (0.6, -8), (-8.8, -12.4), (-6.6, -6), (-5.6, -1)]
        pen.polygon(tuft, row.back, darker(row.back, 0.5), LINE)
        pen.ellipse((0, 0), 6, 6, row.back)
    markings(pen, row)
    bill(pen, row)
    ring = (92, 190, 230) if row.beak == "huge" else row.belly if row.marking == "bib" else None
    eye(pen, (2.4, -0.6), 1.7, ring)


def side(pen: Pen, row: Bird, rng: random.Random) -> None:
    """Draw a bird in side view, in a pose taken from `rng`."""
    build, (step, size) = BUILDS[row.body], STANCE[row.beak]
    root = joint(pen, (step, 0), 0.0, size)
    body = joint(root, (0, 0), rng.uniform(-6, 6))
    (at, turn), (shoulder, fold, spread) = build.tail, build.wing
    tail(joint(body, at, turn + rng.uniform(-9, 9), 1.1 if row.wing == "edged" else 1.0), row)
    torso(body, build, row)
    feet(root, build.feet, LEGS.get(row.beak, (64, 58, 66)))
    head(joint(body, build.head, rng.uniform(-10, 9), build.skull / 7), row)
    wing(joint(body, shoulder, fold + rng.uniform(-8, 5), spread), row)


def front(pen: Pen, row: Bird, rng: random.Random) -> None:
    """Draw the owl, facing the viewer. Its body is an egg with folded wings. Its face has the shape of a heart."""
    edge = darker(row.back, 0.5)
    body = joint(pen, (0, 0), rng.uniform(-4, 4), 1.06)
    stern = joint(body, (0, -3), rng.uniform(-6, 6))
    stern.polygon([(-5.4, 0), (-5, 11.5), (5, 11.5), (5.4, 0)], flight(row), edge, LINE)
    stern.line([(0, 5), (0, 10.5)], 0.9, edge, smooth=False)
    body.ellipse((0, -14.6), 11.8, 14, row.belly, edge, width=LINE)
    for x, y in ((-3.6, -12.6), (3.6, -12.6), (0, -9.2), (-3.6, -6), (3.6, -6)):
        body.ellipse((x, y), 1.0, 1.25, darker(row.back, 0.2))
    droop = rng.uniform(-5, 5)
    for flip in (-1, 1):
        folded = joint(body, (0, 0), droop * flip)
        folded.blob([(x * flip, y) for x, y in OWL_WING], row.back, edge, LINE)
        for x, y in ((10.8, -17.6), (11.6, -12.2), (10.4, -6.6)):
            folded.ellipse((x * flip, y), 1.25, 1.25, lighter(row.belly, 0.5))
    feet(pen, (-3.4, 3.4), (236, 190, 120))
    skull = joint(body, (rng.uniform(-1, 1), -27 + rng.uniform(-0.8, 0.8)), rng.uniform(-12, 12))
    skull.ellipse((0, 0), 12.6, 10.4, row.back, edge, width=LINE)
    lobe = [(-x, y) for x, y in reversed(OWL_LOBE)]
    skull.blob([(0, -4.6), *OWL_LOBE, (0, 9.4), *lobe], row.mark, darker(row.back, 0.3), 1.3)
    for flip in (-1, 1):
        eye(skull, (4.7 * flip, -1.4), 2.5)
    skull.polygon([(-1.4, 1.2), (1.4, 1.2), (1.1, 3.4), (0, 5.6), (-1.1, 3.4)], (236, 176, 120), edge, 0.8)


def draw(pen: Pen, row: Bird, rng: random.Random) -> None:
    """Draw the bird of `row`, perched at the pen's origin and facing +x, in a pose taken from `rng`."""
    (front if row.body == "upright" else side)(pen, row, rng)
