"""Flowers. A flower has a bent stem with two leaves, and a head that is as large as the image allows.

Local units are image pixels. (0, 0) is the foot of the stem, and y runs down, so the head is near (0, -36). Petals,
centres and leaves each have a table from the attribute of the row to the function that draws it. The outlines of petals
are smoothed once, at import. Drawing a petal then needs only a rotation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

from bench.worlds.pocket.drawing.pen import Colour, Pen, Point, curve, darker, lighter, mix
from bench.worlds.pocket.drawing.species import Flower

Profile = tuple[Point, ...]  # (across, along): in half widths, and in lengths from the petal's base
EDGE = 0.8  # width of outlines; thinner outlines would vanish at 64 pixels


def _whole(*half: Point, tip: tuple[Point, ...] = ()) -> Profile:
    """A symmetric petal from its right side, base to tip. `tip` has the points without a mirror image."""
    return (*half, *tip, *((-x, y) for x, y in reversed(half)))


def _smooth(*half: Point, tip: tuple[Point, ...] = ()) -> Profile:
    """A symmetric petal like that of `_whole`, with a smooth outline."""
    return tuple(curve(_whole(*half, tip=tip), closed=True, steps=3))


ROUND = _smooth((0.22, 0.0), (0.72, 0.3), (1.0, 0.66), (0.72, 0.95), tip=((0.0, 1.0),))
CRINKLED = _smooth((0.2, 0.0), (0.7, 0.26), (1.0, 0.58), (0.84, 0.84), (0.48, 0.94), tip=((0.14, 1.04), (-0.14, 0.97)))
WAVY = _smooth((0.2, 0.0), (0.7, 0.36), (1.0, 0.74), (0.78, 0.98), (0.4, 1.04), tip=((0.0, 0.86),))
POINTED = _smooth((0.25, 0.0), (0.8, 0.3), (0.95, 0.6), (0.42, 0.9), tip=((0.0, 1.05),))
STRAP = _smooth((0.45, 0.0), (0.9, 0.4), (1.0, 0.8), (0.5, 0.99))
LEAF = _smooth((0.1, 0.0), (0.85, 0.28), (0.9, 0.58), (0.35, 0.88), tip=((0.0, 1.0),))
RAY = _whole((0.14, 0.0), (0.3, 0.48), (1.0, 0.9), (0.5, 0.82), tip=((0.0, 1.06),))  # teeth must stay sharp
SAW = _whole(
    (0.1, 0.0), (0.75, 0.16), (0.66, 0.28), (1.05, 0.36), (0.78, 0.5), (0.95, 0.6), (0.5, 0.78), tip=((0.0, 1.04),),
)  # fmt: skip


def place(profile: Profile, base: Point, turn: float, length: float, width: float) -> list[Point]:
    """The outline of a petal or leaf of the shape `profile`, `length` long and `width` wide.

    It grows from `base` in the direction `turn` (radians, 0 is up, clockwise).
    """
    s, c, w = math.sin(turn), math.cos(turn), width / 2
    return [(base[0] + y * length * s + x * w * c, base[1] - y * length * c + x * w * s) for x, y in profile]


def toward(base: Point, turn: float, length: float) -> Point:
    """The point `length` away from `base` in the direction `turn`."""
    return base[0] + length * math.sin(turn), base[1] - length * math.cos(turn)


def rim(colour: Colour) -> Colour:
    """The colour of a petal's outline. Paler petals have stronger outlines, so that white is visible on a pale sky."""
    return darker(colour, 0.3 + 0.16 * min(colour) / 255)


def petal(
    pen: Pen, form: Profile, at: Point, turn: float, size: Point, fill: Colour, inner: Colour, depth: float
) -> None:
    """Draw one outlined petal of `size` (length, width). Up to `depth` of its length it has the colour `inner`."""
    pen.polygon(place(form, at, turn, *size), fill, rim(fill), EDGE)
    if depth:
        pen.polygon(place(form, toward(at, turn, 0.6), turn, size[0] * depth, size[1] * depth), inner)


def ring(count: int, start: float) -> list[float]:
    """`count` evenly spaced directions (radians). The lowest ones come last, so that the nearest petals are on top."""
    return sorted((start + 2 * math.pi * i / count for i in range(count)), key=math.cos, reverse=True)


# Petals: (pen, row, head centre, openness, rng)
def spiral(pen: Pen, at: Point, radius: float, turns: float, start: float, colour: Colour, squash: float = 1.0) -> None:
    """Draw the spiral heart of a rose."""
    polar = [(radius * (1 - i / 14), start + 2 * math.pi * turns * i / 14) for i in range(14)]
    pen.line([(at[0] + r * math.cos(a), at[1] + squash * r * math.sin(a)) for r, a in polar], 1.3, colour)


def swirl(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw the petals of a rose.

    Eight or more petals lie in two rings around a spiral heart, seen from the front. Fewer petals form a pointed bud.
    """
    if row.petals < 8:
        return bud(pen, row, at, open_, rng)
    start = rng.uniform(0, 2 * math.pi)
    outer = (row.petals + 1) // 2
    lit = lighter(row.petal, 0.2)
    for turn in ring(outer, start):
        petal(pen, ROUND, at, turn, (17.6 * open_, 17.4), lit, row.petal, 0.8)
    for turn in ring(row.petals - outer, start + 0.6):
        petal(pen, ROUND, at, turn, (12.0 * open_, 15), lit, mix(row.petal, row.second, 0.5), 0.78)
    pen.ellipse(at, 6.8, 6.8, row.petal, row.heart, width=1.0)
    spiral(pen, at, 5.4, 1.6, start, row.heart)


def bud(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw large pointed outer petals, which fold away from a tall spiral bud, seen from the side."""
    x, y = at
    foot = (x, y + 8)
    lean = rng.uniform(-0.08, 0.08)
    outer = row.petals - 3
    lit = lighter(row.petal, 0.25)
    for turn in sorted((1.62 * (2 * i / (outer - 1) - 1) for i in range(outer)), key=abs):
        petal(pen, POINTED, foot, turn * open_ + lean, (20, 19.5), row.petal, row.second, 0.64)
    egg = [(x, y - 18), (x + 5, y - 14), (x + 8.4, y - 5), (x + 7, y + 7), (x, y + 13)]
    egg += [(2 * x - px, py) for px, py in egg[3:0:-1]]
    pen.blob(egg, lit, rim(row.petal), EDGE)
    pen.blob([(x, y - 15), (x + 4.4, y - 9), (x + 5, y - 2), (x - 5, y - 2), (x - 4.4, y - 9)], row.second)
    spiral(pen, (x, y - 8.4), 4.0, 1.25, rng.uniform(2.6, 3.6), lit, 1.2)
    for side in (-1, 1):  # two petals wrap the bud and cross in front
        wrap = [(-9.5, -8), (-4, -3.5), (2, -1), (5.5, 3), (4, 10), (-1, 14), (-7, 10), (-10, 1)]
        pen.blob([(x - side * px, y + py) for px, py in wrap], mix(row.petal, lit, 0.5), rim(row.petal), EDGE)


def bowl(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw the petals of a poppy. Four petals lie flat and overlap. Five petals form a wavy cup with a pale heart."""
    start = rng.uniform(-0.25, 0.25)
    if row.petals < 5:
        for quarter in (0, 2, 1, 3):  # two crossed pairs; the pair behind is in shade
            fill = row.petal if quarter % 2 else darker(row.petal, 0.2)
            petal(pen, CRINKLED, at, start + quarter * math.pi / 2, (17.8 * open_, 20.5), fill, row.second, 0.48)
        return
    for turn in ring(row.petals, start):
        reach = 15.8 + 2.0 * math.cos(turn)  # the viewer looks into a cup: the lowest petals are foreshortened
        petal(pen, WAVY, (at[0], at[1] + 1), turn, (reach * open_, 24), row.petal, row.second, 0.6)


def strap(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw narrow petals with gaps. Fewer petals are broader."""
    for i, turn in enumerate(ring(row.petals, rng.uniform(0, 1))):
        petal(pen, STRAP, at, turn, ((17.6 - 1.0 * (i % 2)) * open_, 63 / row.petals), row.petal, row.second, 0.55)


def cup(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw a tulip from the side. Pointed petals form a cup, and the paler insides are visible behind them."""
    foot = (at[0], at[1] + 15)
    lean = rng.uniform(-0.04, 0.04)
    for turn in (-0.24, 0.24):
        petal(pen, POINTED, foot, turn * open_ + lean, (30, 19), row.second, row.second, 0)
    for turn in (-0.36, 0.36):
        petal(pen, POINTED, foot, turn * open_ + lean, (30, 21), row.petal, darker(row.petal, 0.2), 0.6)
    for i in range(row.petals - 2):
        petal(pen, POINTED, foot, lean + 0.2 * i, (28, 19), lighter(row.petal, 0.12), row.petal, 0.7)
    pen.line([toward(foot, lean, 4), toward(foot, lean, 18)], 1.3, row.second)


def fringe(pen: Pen, row: Flower, at: Point, open_: float, rng: random.Random) -> None:
    """Draw trumpet-shaped rays with toothed ends, and a short inner ring of dark rays."""
    start = rng.uniform(0, 1)
    for turn in ring(row.petals, start):
        petal(pen, RAY, at, turn, (17.4 * open_, 9.8), row.petal, row.second, 0)
    for turn in ring(row.petals - 3, start + 0.3):
        pen.polygon(place(RAY, at, turn, 9.6, 5), row.second)


# Centres: (pen, row, head centre)
def dots(pen: Pen, at: Point, radius: float, count: int, size: float, colour: Colour) -> None:
    """Draw a ring of round dots."""
    for i in range(count):
        pen.ellipse(toward(at, 2 * math.pi * i / count, radius), size, size, colour)


def button(pen: Pen, row: Flower, at: Point) -> None:
    """Draw a small disc, lit from above."""
    pen.ellipse(at, 4.9, 4.9, row.heart, darker(row.heart, 0.35), width=0.9)
    pen.ellipse((at[0], at[1] - 1.2), 2.4, 2.0, lighter(row.heart, 0.4))


def dome(pen: Pen, row: Flower, at: Point) -> None:
    """Draw a big dome, lit from above, with a ring of florets."""
    pen.ellipse(at, 8.2, 8.2, row.heart, darker(row.heart, 0.4), width=0.9)
    dots(pen, at, 6.0, 9, 1.1, darker(row.heart, 0.3))
    pen.ellipse((at[0], at[1] - 1.8), 3.8, 3.2, lighter(row.heart, 0.4))


def dark(pen: Pen, row: Flower, at: Point) -> None:
    """Draw a ring of dark stamens around a pale capsule."""
    dots(pen, at, 6.6, 11, 1.2, row.heart)
    pen.ellipse(at, 5.4, 5.4, row.heart)
    pen.ellipse(at, 2.7, 2.7, (176, 190, 128))


def stamens(pen: Pen, row: Flower, at: Point) -> None:
    """Draw a ring of pale stamens around a green heart."""
    pen.ellipse(at, 7.4, 7.4, darker(row.petal, 0.45))  # a dark disc, so that pale dots are visible on pale petals
    dots(pen, at, 5.4, 8, 1.6, lighter(row.heart, 0.3))
    pen.ellipse(at, 2.9, 2.9, (150, 176, 70), (96, 122, 48))


# Leaves: (pen, foot on the stem, direction, green)
def flat(profile: Profile, size: Point, pen: Pen, at: Point, turn: float, green: Colour) -> None:
    """Draw a leaf of the shape `profile` and of `size` (length, width), with a pale midrib."""
    pen.polygon(place(profile, at, turn, *size), green, darker(green, 0.45), EDGE)
    pen.line([at, toward(at, turn, size[0] * 0.75)], 1.0, lighter(green, 0.3))


def feathery(pen: Pen, at: Point, turn: float, green: Colour) -> None:
    """Draw a midrib with thin leaflets. A dark line under each light line keeps the leaf visible on grass."""
    twigs: list[Sequence[Point]] = [(at, toward(at, turn, 16))]
    for along in (4.0, 8.5, 12.5):
        knot = toward(at, turn, along)
        twigs += [(knot, toward(knot, turn + side, 7.2 - along * 0.25)) for side in (-0.85, 0.85)]
    for width, colour in ((2.6, darker(green, 0.5)), (1.4, green)):
        for twig in twigs:
            pen.line(twig, width, colour, smooth=False)


def blade(pen: Pen, at: Point, turn: float, green: Colour) -> None:
    """Draw a long leaf that rises from the ground and bends outwards."""
    base = (at[0], at[1] + 13)
    pen.taper(
        [base, toward(base, turn * 0.3, 12), toward(base, turn * 0.6, 27)], [4.0, 6.2, 0.4], green, darker(green, 0.45)
    )


PETALS: dict[str, Callable[[Pen, Flower, Point, float, random.Random], None]] = {
    "swirl": swirl, "bowl": bowl, "strap": strap, "cup": cup, "fringe": fringe,
}  # fmt: skip
CENTRES: dict[str, Callable[[Pen, Flower, Point], None]] = {  # "none": the petals hide the centre
    "button": button, "dome": dome, "dark": dark, "stamens": stamens,
}  # fmt: skip
LEAVES: dict[str, tuple[Callable[[Pen, Point, float, Colour], None], Colour]] = {  # the tone of the leaves differs too
    "toothed": (partial(flat, SAW, (16.5, 11)), (58, 122, 62)),
    "feathery": (feathery, (132, 182, 96)),
    "oval": (partial(flat, LEAF, (16, 8.5)), (92, 164, 58)),
    "blade": (blade, (98, 168, 124)),
}


def draw(pen: Pen, row: Flower, rng: random.Random) -> None:
    """Draw the flower of `row`. `rng` sets its pose and its openness."""
    head = (rng.uniform(-2, 2), -36 + rng.uniform(-1.5, 1.5))
    bend = rng.uniform(-3, 3)
    leaf, green = LEAVES[row.leaves]
    stem = [(0.0, 3.0), (bend, -12.0), (head[0], head[1] + 4)]
    pen.taper(stem, [3.6, 3.2, 3.0], darker(green, 0.4))
    pen.taper(stem, [2.0, 1.7, 1.5], green)
    for side, low in ((-1, -7.5), (1, -11.0)):
        leaf(pen, (bend * 0.8, low + rng.uniform(-1.5, 1.5)), side * rng.uniform(1.0, 1.3), green)
    PETALS[row.shape](pen, row, head, rng.uniform(0.92, 1.08), rng)
    if row.centre in CENTRES:
        CENTRES[row.centre](pen, row, head)
