"""Dogs in side view. Eight breeds are drawn from one skeleton and a table for each attribute.

A dog has a few layers, ordered from far to near. A layer is a list of parts (polygon, fill). First all outlines of a
layer are drawn, then all its fills. The parts of a layer form one silhouette. Only layers have lines between them.
Local units are image pixels. The origin is the ground under the middle of the dog. y is down, and the dog faces right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.worlds.pocket.drawing.pen import Colour, Pen, Point, curve, darker, lighter, mix
from bench.worlds.pocket.drawing.species import Dog

Part = tuple[list[Point], Colour]

INK = 0.9  # visible width of outlines
DARK: Colour = (30, 24, 32)  # noses, pupils
COLLARS: tuple[Colour, ...] = ((214, 48, 62), (46, 104, 204), (44, 156, 96), (240, 188, 40))


@dataclass(frozen=True)
class Build:
    """The skeleton of a leg length: x of the trunk's ends, y of its `back` and `belly`, and the centre of the head."""

    rear: float
    front: float
    back: float
    belly: float
    head: Point


BUILDS = {
    "short": Build(-14.5, 10.0, -18.0, -5.4, (11.0, -25.0)),
    "medium": Build(-12.5, 10.0, -23.5, -10.0, (11.8, -27.0)),
    "long": Build(-12.5, 9.0, -24.0, -12.0, (11.4, -29.5)),
}
GIRTH = {"fine": 0.88, "medium": 1.0, "blunt": 1.2}  # dogs with a blunt muzzle are stocky

# The profile of the muzzle and the position of the nose, in the head's frame. Its origin is the centre of the skull.
MUZZLES: dict[str, tuple[list[Point], Point]] = {
    "fine": ([(0, -2.6), (4.6, -1.4), (8.6, 0.2), (9.2, 2.0), (7.4, 3.4), (3.6, 4.4), (-1, 5)], (8.8, 0.5)),
    "medium": ([(0, -3.4), (4.8, -2.0), (8.2, -1.0), (9.0, 1.4), (7.8, 4.0), (3.6, 5.2), (-1, 5.4)], (8.6, -0.5)),
    "blunt": ([(0, -4.4), (4.6, -3.0), (7.8, -2.2), (9.0, 0.4), (8.6, 4.0), (5.8, 5.8), (-1, 6)], (8.5, -1.3)),
}
# Near and far ear in the head's frame. The far ear is drawn behind the skull, which hides a hanging far ear.
EARS: dict[str, tuple[list[Point], list[Point]]] = {
    "drop": ([(-2.6, -5), (0.2, -3.8), (0.4, 0.6), (-1.2, 4.6), (-3.8, 5.4), (-5.8, 1.6), (-5.2, -3)], []),
    "pricked": ([(-5.4, -2), (-5.6, -7), (-4.4, -11.5), (-1.4, -8), (0.8, -4)],
                [(0, -4), (1.2, -8), (3.0, -11), (4.2, -7), (4.6, -3)]),
    "round": ([(-5.4, -2), (-7.0, -6), (-6.4, -9.8), (-3.6, -10.4), (-1.2, -8), (0.2, -4)],
              [(-0.2, -4), (1.2, -8), (3.2, -9.8), (5.2, -8.8), (5.4, -5.6), (4.6, -3)]),
    "long": ([(-3.4, -4), (-0.8, -3), (-0.6, 3), (-1.4, 8.6), (-4.2, 10), (-6.4, 7), (-5.4, 1)], []),
}  # fmt: skip

# Tails: path from the root, widths along the path, fraying, and the widths of a pale tip at the last points ([]: no
# pale tip). Northern dogs (thick fur) have their plume high over the back. Other plumes have hair (PLUME) below it.
TAILS: dict[str, tuple[list[Point], list[float], float, list[float]]] = {
    "thin": ([(2, 1), (-3, -1), (-6, -6), (-5.6, -12), (-3.6, -15)], [4.4, 3.4, 2.8, 2.2, 1.2], 0, []),
    "plume": ([(2, 0), (-3, 0), (-7, -2.5), (-9.4, -8)], [4.5, 4.8, 4, 0.8], 0, []),
    "thick plume": ([(2, 2), (-4, -2), (-5, -8), (-1, -11.5), (3, -10)], [5, 7.5, 8, 6.5, 1], 0.14, [2, 4, 0.6]),
    "curled": ([(1.2 + 4.4 * math.cos(0.8 * i + 2), -5 + 4.6 * math.sin(0.8 * i + 2)) for i in range(7)],
               [5, 5.4, 5.6, 5.4, 5, 4, 1.5], 0, [2, 3.2, 0.8]),
    "brush": ([(3, 0), (-1.5, 0.6), (-4.2, 4), (-5.4, 8.4), (-8, 12)], [4, 5.6, 6.6, 5.6, 0.8], 0, [5.6, 0.8]),
    "bob": ([(2, 0), (-1.2, 0), (-3.2, 0.4)], [4, 4.4, 2.2], 0, []),
    "pompom": ([(2, 1), (-1.5, -3), (-2.5, -8)], [3, 2.2, 2], 0, []),
}  # fmt: skip
PLUME: list[Point] = [(1, 1), (-1.5, 6), (-2.6, 4.6), (-4.6, 8.4), (-5.4, 5.6), (-8.4, 7.4), (-8, 3.8), (-10.2, 3.6),
                      (-9.2, 0.6), (-10.4, -1.6), (-9.2, -7), (-4, -2)]  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """The colour of each region of a dog."""

    body: Colour
    chest: Colour
    limbs: Colour
    paws: Colour
    face: Colour
    ears: Colour
    tip: Colour  # of the tail, and of long and curly hair
    ink: Colour


def palette(row: Dog) -> Palette:
    """The colours of the regions of a dog, from its coat and its markings."""
    a, b = row.coat, row.second
    soft = mix(a, b, 0.55)  # the chest of a plain dog is only a little paler
    regions = {
        # chest, limbs, paws, face, ears, tip
        "plain": (soft, a, a, soft, darker(a, 0.2), b),
        "bib": (b, a, b, b, a, b),
        "mask": (b, a, b, b, a, b),
        "saddle": (a, a, a, a, b, b),
        "spots": (a, a, a, a, b, a),
    }[row.markings]
    return Palette(a, *regions, darker(a, 0.5))


# ---- shapes -----------------------------------------------------------------------------------------------------


def oval(x: float, y: float, rx: float, ry: float, teeth: int = 0, depth: float = 0.0) -> list[Point]:
    """The outline of an ellipse. With `teeth`, its edge has that many locks of fur, which stand out by `depth`."""
    n = 2 * teeth or 16
    ring = [(2 * math.pi * i / n, depth * (i % 2)) for i in range(n)]
    return [(x + (rx + d) * math.cos(t), y + (ry + d) * math.sin(t)) for t, d in ring]


def fluff(x: float, y: float, r: float, lobes: int = 7) -> list[Point]:
    """The outline of a pom-pom: a circle with a scalloped edge."""
    ring = [(t, r * (0.84 + 0.22 * abs(math.sin(lobes * t / 2)))) for t in (math.tau * i / 32 for i in range(32))]
    return [(x + q * math.cos(t), y + q * math.sin(t)) for t, q in ring]


def band(points: Sequence[Point], widths: Sequence[float], jag: float = 0.0) -> list[Point]:
    """The smooth outline of a limb through `points`, `widths[i]` wide at point i. `jag` frays its right-hand side."""
    left, right = [], []
    for i, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[max(i - 1, 0)], points[min(i + 1, len(points) - 1)]
        norm = math.hypot(bx - ax, by - ay) or 1.0
        nx, ny = -(by - ay) / norm * widths[i] / 2, (bx - ax) / norm * widths[i] / 2
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    frayed = curve(right, closed=False, steps=3)
    if jag:
        cx, cy = points[0]
        frayed = [(x + (x - cx) * jag * (i % 2), y + (y - cy) * jag * (i % 2)) for i, (x, y) in enumerate(frayed)]
    return curve(left, closed=False, steps=3) + frayed[::-1]


def fringe(start: Point, end: Point, drop: Point, teeth: int) -> list[Point]:
    """The outline of `teeth` locks of hair along the edge from `start` to `end`. They hang down by `drop`."""

    def at(t: float, k: float) -> Point:
        return (start[0] + (end[0] - start[0]) * t + drop[0] * k, start[1] + (end[1] - start[1]) * t + drop[1] * k)

    saw = [at((i + s) / teeth, k) for i in range(teeth) for s, k in ((0.0, 0.35), (0.6, 1.0))]
    return [at(1.0, -0.5), at(0.0, -0.5), *saw, at(1.0, 0.35)]


def turned(points: Sequence[Point], centre: Point, angle: float) -> list[Point]:
    """Points of a local frame (head or tail), turned by `angle` degrees and moved to `centre`."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [(centre[0] + x * c - y * s, centre[1] + x * s + y * c) for x, y in points]


def grown(points: Sequence[Point], width: float) -> list[Point]:
    """The polygon with each corner moved outwards by `width`. This is faster than a thick stroke with round joints."""
    before, after = [*points[-1:], *points[:-1]], [*points[1:], *points[:1]]
    area = sum(x * v - u * y for (x, y), (u, v) in zip(points, after, strict=True))
    width = width if area > 0 else -width
    out = []
    for (x, y), (ax, ay), (bx, by) in zip(points, before, after, strict=True):
        dx, dy = bx - ax, by - ay
        k = width / (math.sqrt(dx * dx + dy * dy) or 1.0)
        out.append((x + dy * k, y - dx * k))
    return out


def inked(pen: Pen, parts: Sequence[Part], ink: Colour) -> None:
    """Draw a layer: first the outlines of all parts, then their fills."""
    for points, _ in parts:
        pen.polygon(grown(points, INK), ink)
    for points, fill in parts:
        pen.polygon(points, fill)


# ---- parts of a dog ---------------------------------------------------------------------------------------------


def tail(row: Dog, p: Palette, base: Point, lift: float) -> list[Part]:
    """The parts of the tail, with its root at `base`. `lift` turns the tail by that many degrees."""
    path, widths, jag, tip = TAILS.get(f"{row.fur} {row.tail}") or TAILS[row.tail]
    shapes = [(band(path, widths, jag), p.body)]
    if tip:
        shapes.append((band(path[-len(tip) :], tip), p.tip))
    if row.tail == "plume" and row.fur != "thick":
        shapes.insert(0, (PLUME, p.tip))
    if row.tail == "pompom":
        shapes.append((fluff(-2.8, -10, 4.2), p.tip))
    return [(turned(points, base, lift), fill) for points, fill in shapes]


def leg(row: Dog, x: float, top: float, foot: float, hind: bool, shade: float, p: Palette) -> list[Part]:
    """The parts of one leg, from the hip or shoulder at (`x`, `top`) to a foot on the ground at x = `foot`."""
    w = 4.0 * GIRTH[row.muzzle] * (1.12 if row.legs == "short" else 1.0)
    limb, paw = darker(p.limbs, shade), darker(p.paws, shade)
    if hind:  # thigh, then the knee (forward), then the hock (back)
        shin = band([(x, top), (x + 0.5, top * 0.66), (foot - 1.3, top * 0.33), (foot, -1.0)],
                    [w * 1.8, w * 1.7, w * 0.9, w * 0.85])  # fmt: skip
    else:
        shin = band([(x, top), ((x + foot) / 2, top * 0.45), (foot, -1.0)], [w * 1.35, w, w * 0.85])
    parts = [(shin, limb), (oval(foot + 0.7, -1.5, w * 0.62, 1.5), paw)]
    if p.paws != p.limbs:
        sock = top * (0.42 if row.markings == "mask" else 0.3)
        parts.append((band([(foot - hind * 1.2, sock), (foot, -1.0)], [w, w * 0.9]), paw))
    if row.fur == "feathered":
        edge = x - w * (0.8 if hind else 0.4)
        parts.append((fringe((edge, top * 0.95), (foot - w * 0.3, -3), (-2.6, 1.2), 4), darker(p.tip, shade)))
    if row.fur == "curly":
        parts.append((fluff(foot, -4.6, 3.6), darker(p.tip, shade)))
    return parts


def trunk(row: Dog, b: Build, p: Palette) -> list[Part]:
    """The parts of body and neck, and the parts behind the near legs: pale belly, saddle, hair under the belly."""
    g = GIRTH[row.muzzle]
    rear, front, back, belly = b.rear, b.front, b.back, b.belly + (g - 1) * 6
    hx, hy = b.head
    tuck = belly - (0.6 if row.legs == "short" else 2.4 / g)
    body = [(rear, back + 5), (rear + 3, back + 0.4), (-2, back + 0.6), (4, back - 0.8), (front, back + 4),
            (front + 0.6, (back + belly) / 2 + 1), (front - 4, belly), (-3, tuck), (rear + 3, tuck - 0.4)]  # fmt: skip
    slim = min(g, 1.05) if row.fur == "smooth" else g
    nape = ((front + hx) / 2 - 2.2, (back + hy) / 2 + 1.5)
    parts = [
        (curve(body, True, 3), p.body),
        (band([(front - 5, back + 6), nape, (hx - 1, hy)], [13 * g, 9.5 * slim, 8 * slim]), p.body),
    ]
    if row.markings in ("bib", "mask"):
        pale = [(rear + 3, tuck - 2), (-3, tuck - 3.6), (5, belly - 5), (5, belly), (-3, tuck), (rear + 4, tuck - 0.4)]
        parts.append((curve(pale, True, 3), p.chest))
    if row.markings == "saddle":
        cloth = [(rear + 1, back + 3), (rear + 4, back), (-2, back), (5, back), (3, back + 7), (-6, back + 6)]
        parts.append((curve(cloth, True, 3), row.second))
    if row.fur == "feathered":
        parts.append((fringe((front - 1, belly - 1), (-8, tuck), (-1.4, 4.2), 5), p.tip))
    if row.fur == "curly":
        parts.append((fluff(rear + 3.6, back + 5, 5.4, 8), p.tip))
    return parts


def breast(row: Dog, b: Build, p: Palette) -> list[Part]:
    """The parts over the near shoulder: white chest, ruff, mane."""
    g = GIRTH[row.muzzle]
    front, back, belly = b.front, b.back, b.belly + (g - 1) * 6
    hx, hy = b.head
    parts: list[Part] = []
    if row.fur == "feathered":
        parts.append((fringe((hx + 1, hy + 6), (front - 0.5, belly - 1), (2.4, 2.6), 4), p.tip))
    if row.markings in ("bib", "mask"):
        chest = [(hx - 5, hy + 3), (hx + 3, hy + 3), (front + 2, back + 5), (front + 1.4, belly - 2.5),
                 (front - 2, belly - 1), (front - 4, back + 6)]  # fmt: skip
        parts.append((curve(chest, True, 3), p.chest))
    if row.markings == "plain" and row.fur == "smooth":  # only the brisket is paler
        parts.append((oval(front - 0.4, back + 8, 2.2, 4.6), p.chest))
    if row.fur == "thick":
        parts.append((oval(hx - 5.4, hy + 5, 5.2 * g, 5.6 * g, 10, 1.9), p.body))
        parts.append((oval((hx + front) / 2 - 0.4, hy + 7.0, 6.0 * g, 6.2 * g, 10, 1.9), p.chest))
    if row.fur == "curly":
        parts.append((fluff(front - 3.2, (back + belly) / 2 - 0.5, 8.2, 11), p.tip))
    return parts


SPOTS = ((0.06, 0.3), (0.24, 0.12), (0.2, 0.62), (0.38, 0.42), (0.5, 0.12), (0.55, 0.76), (0.68, 0.4), (0.82, 0.1),
         (0.9, 0.68), (0.02, 0.86), (0.03, 1.3), (0.74, 1.2))  # fmt: skip


def spots(pen: Pen, b: Build, colour: Colour, rng: random.Random) -> None:
    """Draw bold spots at `SPOTS` (shares of the trunk's length and depth). Their jitter is too small to merge them."""
    for u, v in SPOTS:
        x = b.rear + 1.8 + (b.front - b.rear - 2.4) * u + rng.uniform(-0.6, 0.6)
        y = b.back + 1.8 + (b.belly - b.back - 2.8) * v + rng.uniform(-0.6, 0.6)
        r = rng.uniform(1.2, 1.7)
        pen.ellipse((x, y), r, r * 0.95, colour)


def head(pen: Pen, row: Dog, p: Palette, at: Point, tilt: float, happy: bool) -> None:
    """Draw the head with ears, muzzle, eye and mouth. A `happy` dog shows its tongue."""

    def put(points: Sequence[Point]) -> list[Point]:
        return turned(points, at, tilt)

    def dot(x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        pen.polygon(put(oval(x, y, rx, ry)), fill)

    near, far = EARS[row.ears]
    shape, nose = MUZZLES[row.muzzle]
    g = 1.08 if row.legs == "short" else 0.94 + 0.3 * (GIRTH[row.muzzle] - 0.88)
    upright = row.ears in ("pricked", "round")
    size = 0.78 if row.muzzle == "blunt" else 1.0 if row.legs == "short" or row.ears != "pricked" else 0.88
    if upright:
        near, far = ([(x, -3 + (y + 3) * size) for x, y in ear] for ear in (near, far))
    if far:
        inked(pen, [(put(curve(far, True, 3)), darker(p.ears, 0.25))], p.ink)
    muzzle = put(curve(shape, True, 3))
    layer: list[Part] = [(put(oval(0, 0, 6.0 * g, 5.6 * g)), p.body), (muzzle, p.face)]
    if happy:
        layer.insert(0, (put(oval(5.4, shape[-2][1] + 0.9, 1.5, 2.2)), (240, 112, 128)))
    if row.markings == "mask":  # cheek and brow are pale; the dark cap reaches down between them
        cheek = [(-3.6, 1), (0, -0.6), (3, -3.4), (5, -2), (4, 4), (0, 5.6), (-3, 4.6)]
        layer.append((put(curve(cheek, True, 3)), p.face))
    if row.markings == "bib":  # the blaze runs from the muzzle up the forehead
        layer.append((put(curve([(2.6, -5), (4.6, -4), (5.6, -1), (3.4, 2), (3.8, -2)], True, 3)), p.face))
    if row.fur == "curly":
        layer.append((put(fluff(-0.8, -4.6, 5.2, 8)), p.tip))
    ear = (put(curve(near, True, 3)), p.ears)
    inked(pen, [ear, *layer] if upright else layer, p.ink)  # upright ears grow out of the skull without a line
    if not upright:
        inked(pen, [ear], p.ink)
    else:
        cx, cy = near[0][0] * 0.5 - 0.4, -3.6
        inner = [(cx + (x - cx) * 0.55, cy + (y - cy) * 0.66) for x, y in near]
        pen.polygon(put(curve(inner, True, 3)), mix(p.ears, (248, 176, 168), 0.6))
    if row.fur == "curly":
        inked(pen, [(put(fluff(-3.8, 6.0, 4.2, 8)), p.tip)], p.ink)
    pen.line(put([(7.6, nose[1] + 2.6), (5.6, nose[1] + 3.6), (3.6, nose[1] + 3.0)]), 0.8, darker(p.face, 0.6))
    dot(*nose, 1.6, 1.35, DARK)
    eye = (2.4, -1.5)
    if row.markings == "mask" and row.muzzle != "blunt":
        dot(*eye, 1.7, 1.7, DARK)
        dot(*eye, 1.25, 1.25, (132, 204, 250))
        dot(eye[0] + 0.2, eye[1], 0.7, 0.8, DARK)
    else:
        dot(*eye, 1.35, 1.45, DARK)
    dot(eye[0] + 0.45, eye[1] - 0.55, 0.5, 0.5, (255, 255, 255))


def draw(pen: Pen, row: Dog, rng: random.Random) -> None:
    """Draw the dog of `row`. `rng` sets its pose, its collar and its spots."""
    p, still = palette(row), BUILDS[row.legs]
    stretch, stride, lift = rng.uniform(0.94, 1.06), rng.uniform(-1.8, 1.8), rng.uniform(-10, 10)
    tilt, happy, collar = rng.uniform(-8, 10), rng.random() < 0.5, rng.choice(COLLARS)
    at = (still.head[0] + rng.uniform(-0.7, 0.5), still.head[1] + rng.uniform(-1.0, 1.4))
    b = Build(still.rear * stretch, still.front, still.back, still.belly, at)
    hip, shoulder, low = b.rear + 4, b.front - 4, b.belly

    inked(pen, tail(row, p, (b.rear + 1, b.back + 3), lift), p.ink)
    far = leg(row, hip + 3.6, low - 2, hip + 3.4 - stride, True, 0.28, p)
    inked(pen, far + leg(row, shoulder + 3.2, low - 2, shoulder + 3.4 + stride, False, 0.28, p), p.ink)
    near = leg(row, hip, low - 4, hip - 1.2 + stride, True, 0.0, p)
    near += leg(row, shoulder, low - 3, shoulder - 0.8 - stride, False, 0.0, p)
    inked(pen, trunk(row, b, p) + near + breast(row, b, p), p.ink)
    if row.fur in ("smooth", "feathered"):  # haunch, shoulder and a sheen on the back give volume
        pen.line([(-4, b.back + 2.3), (b.rear + 4, b.back + 2.0)], 1.6, lighter(row.coat, 0.18))
        x, y, span = hip + 3.8, b.back + 5, low - b.back
        pen.line([(x - 2.4, y), (x + 0.2, y + span * 0.28), (x - 0.6, y + span * 0.62)], 0.9, darker(row.coat, 0.3))
    if row.markings == "spots":
        spots(pen, b, row.second, rng)
    if row.fur in ("smooth", "feathered"):
        pen.line([(at[0] - 6.5, at[1] + 4.2), (at[0] - 2.5, at[1] + 6.6), (at[0] + 1.5, at[1] + 6.8)], 1.7, collar)
    head(pen, row, p, at, tilt, happy)
