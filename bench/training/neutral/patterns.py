"""Draws stripes, rings, stars and other patterns. A pattern gives the number of a colour for each point of a grid.

Positions are integers in 0..UNITS for every size of the grid, so a pattern has the same design at every size. All
arithmetic is on integers, and Pillow draws polygons with integer corners. Every machine therefore computes the same
pattern.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

UNITS = 4096  # length of a side of the grid in units of position
SHADES = 256  # number of levels between one colour and the next
# (a, b, c) with a² + b² = c². Each is a rotation whose matrix has the rational entries a / c and b / c.
TURNS = ((1, 0, 1), (0, 1, 1), (3, 4, 5), (4, 3, 5), (-3, 4, 5), (-4, 3, 5), (20, 21, 29), (-20, 21, 29), (12, 5, 13))
# word in the caption -> smallest and largest width, in 64ths of the side
LINES = {"thin": (3, 4), "": (6, 9), "wide": (12, 16)}
PARTS = {"tiny": (5, 6), "": (9, 12), "big": (15, 20)}

Grid = np.ndarray  # int64, (side, side)


@dataclass(frozen=True)
class Pattern:
    """One kind of pattern.

    Args:
        draw: function of (x, y, width of a part, number of colours, random generator). It returns the number of the
            colour at each point, from 0. x, y and the width are in units of position (see `UNITS`).
        sizes: word in the caption -> smallest and largest width of a part, in 64ths of the side.
        on_ground: whether colour 0 is the background, on which the other colours are drawn.
        smooth: whether `draw` returns levels, as `levels` does, instead of numbers of colours.
    """

    draw: Callable[[Grid, Grid, int, int, random.Random], Grid]
    sizes: Mapping[str, tuple[int, int]]
    on_ground: bool = False
    smooth: bool = False


def levels(pattern: Pattern, size: str, colours: int, side: int, rng: random.Random) -> Grid:
    """The levels of a pattern, int64 (side, side), in 0..(colours - 1) * SHADES.

    A multiple of SHADES is one of the colours. Any other level is a mixture of two neighbouring colours.

    Args:
        pattern: the kind of pattern.
        size: a key of `pattern.sizes`.
        colours: number of colours, 2 or 3.
        side: number of points on each side of the grid.
        rng: source of the random width, place and rotation.

    Example:
        >>> levels(PATTERNS["checks"], "big", 2, side=4, rng=random.Random(0)).shape
        (4, 4)
    """
    line = (2 * np.arange(side, dtype=np.int64) + 1) * UNITS // (2 * side)
    x, y = np.meshgrid(line, line)
    drawn = pattern.draw(x, y, UNITS * rng.randint(*pattern.sizes[size]) // 64, colours, rng)
    return drawn if pattern.smooth else drawn * SHADES


def _turned(x: Grid, y: Grid, rng: random.Random) -> tuple[Grid, Grid]:
    a, b, c = rng.choice(TURNS)
    return (a * x + b * y) // c, (a * y - b * x) // c


def _placed(x: Grid, y: Grid, rng: random.Random) -> tuple[Grid, Grid]:
    """The positions, rotated and shifted at random."""
    u, v = _turned(x, y, rng)
    return u + rng.randrange(UNITS), v + rng.randrange(UNITS)


def _centred(x: Grid, y: Grid, rng: random.Random) -> tuple[Grid, Grid]:
    return x - rng.randint(UNITS // 4, UNITS * 3 // 4), y - rng.randint(UNITS // 4, UNITS * 3 // 4)


def _stripes(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    return _placed(x, y, rng)[0] // width % colours


def _waves(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    half = max(width, UNITS // 8) * 3 // 2
    along, sign = v % half, 1 - 2 * (v // half % 2)
    return (
        (u + sign * 4 * along * (half - along) // (half * 3)) // width % colours
    )  # parabolas approximate a sine in integers


def _zigzag(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    half = max(width, UNITS // 10) * 5 // 4
    return (u + abs(v % (2 * half) - half)) // width % colours


def _checks(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    return (u // width + v // width) % colours


def _plaid(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    bands = np.array([0, 0, 1] if colours == 2 and rng.random() < 0.5 else range(colours))
    across, down = bands[u // width % len(bands)], bands[v // width % len(bands)]
    return (across + down) * SHADES // 2


def _fade(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    if rng.random() < 0.3:
        way = _away(*_centred(x, y, rng))
        way = way * UNITS * 4 // 3 // way.max() - UNITS // 6  # the fade covers 1/8 to 7/8 of the longest distance
    else:
        way = rng.choice((-1, 1)) * _turned(x - UNITS // 2, y - UNITS // 2, rng)[0] + UNITS // 2
    return np.clip(way * (colours - 1) * SHADES // UNITS, 0, (colours - 1) * SHADES)


def _rings(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    return _away(*_centred(x, y, rng)) // width % colours


def _away(x: Grid, y: Grid) -> Grid:
    return np.sqrt(x * x + y * y).astype(np.int64)  # IEEE 754 defines the rounding of the square root


def _frames(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _turned(*_centred(x, y, rng), rng)
    return np.maximum(abs(u), abs(v)) // width % colours


def _diamonds(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    shift, tall = rng.randrange(UNITS), rng.choice((1, 2))
    u, v = (x * tall + y + shift) // (width * 2), (x * tall - y + shift) // (width * 2)
    return (u + v) % colours


def _wedges(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    """Squares that are divided along a diagonal."""
    u, v, flip = _cells(x, y, width, rng)
    u = np.where(flip == 1, width - 1 - u, u)
    return np.where(u > v, 0, 1 if colours == 2 else 1 + flip)


def _arcs(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    """Truchet tiles. Each square has quarter circles around two opposite corners."""
    u, v, flip = _cells(x, y, width, rng)
    u = np.where(flip == 1, width - 1 - u, u)
    near = np.minimum(u * u + v * v, (width - 1 - u) ** 2 + (width - 1 - v) ** 2)
    return np.where(near * 9 < width * width, 2 * (colours - 2), np.where(near * 9 < 4 * width * width, 1, 0))


def _cells(x: Grid, y: Grid, width: int, rng: random.Random) -> tuple[Grid, Grid, Grid]:
    """Divide the grid into squares of side `width`.

    Returns x and y of each point within its square, and a random bit (0 or 1) of the square.
    """
    count = UNITS // width + 2
    coins = np.array([rng.randrange(2) for _ in range(count * count)], dtype=np.int64).reshape(count, count)
    shift = rng.randrange(width)
    u, v = x + shift, y + shift
    return u % width, v % width, coins[v // width, u // width]


def _shards(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    """Each point has the colour of the nearest of several random centres."""
    nearest, colour = np.full_like(x, 4 * UNITS * UNITS), np.zeros_like(x)
    for i in range(max(8, 2 * (UNITS // width) ** 2 // 3)):
        distance = (x - rng.randrange(UNITS)) ** 2 + (y - rng.randrange(UNITS)) ** 2
        colour, nearest = np.where(distance < nearest, i % colours, colour), np.minimum(distance, nearest)
    return colour


def _camo(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    """Smooth noise. It is divided by its value so that all colours have about equal area."""
    count = max(6, UNITS // width)
    noise = Image.frombytes("L", (count, count), bytes(rng.randrange(256) for _ in range(count * count)))
    field = np.asarray(noise.resize(x.shape[::-1], Image.Resampling.BICUBIC), dtype=np.int64)
    ranked = np.sort(field, axis=None)
    return sum((field >= ranked[len(ranked) * i // colours]).astype(np.int64) for i in range(1, colours))


def _dots(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    row = v // width
    u = u + row % 2 * (width // 2)
    inside = (u % width - width // 2) ** 2 + (v % width - width // 2) ** 2 < (width * 3 // 10) ** 2
    return np.where(inside, 1 + (u // width + row) % (colours - 1), 0)


def _crosses(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    a, b = abs(u % width - width // 2), abs(v % width - width // 2)
    inside = (np.minimum(a, b) < width // 9) & (np.maximum(a, b) < width * 3 // 8)
    return np.where(inside, 1 + (u // width + v // width) % (colours - 1), 0)


def _grid(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    u, v = _placed(x, y, rng)
    return np.where(v % (2 * width) < width // 2, colours - 1, np.where(u % (2 * width) < width // 2, 1, 0))


def _rays(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
    count, start = colours * max(2, round(16 * 512 / width / colours)), rng.random()
    cx, cy = (rng.randint(UNITS // 4, UNITS * 3 // 4) for _ in "xy")
    rims = [_corner(cx, cy, 2 * UNITS, (i + start) / count) for i in range(count + 1)]
    return _filled(x, [([(cx, cy), rims[i], rims[i + 1]], i % colours) for i in range(count)])


def _scattered(corners: Sequence[tuple[float, float]], packed: int = 1) -> Callable[..., Grid]:
    """A function for `Pattern.draw` that draws the same shape around many points.

    Args:
        corners: (angle, distance) of each corner. The angle is a fraction of a full turn. The distance is a fraction of
            the radius.
        packed: factor for the number of points along a side.
    """

    def draw(x: Grid, y: Grid, width: int, colours: int, rng: random.Random) -> Grid:
        shapes = []
        for i, (cx, cy) in enumerate(_places(width * 3 // 2 // packed, rng)):
            turn, radius = rng.random(), width * rng.randint(48, 68) // 96 // packed
            outline = [_corner(cx, cy, radius * part, turn + angle) for angle, part in corners]
            shapes.append((outline, 1 + i % (colours - 1)))
        return _filled(x, shapes)

    return draw


def _places(apart: int, rng: random.Random) -> Iterator[tuple[int, int]]:
    """A point near the middle of each square of side `apart`. One row of squares beyond each edge is included."""
    shift = rng.randrange(apart)
    for v in range(-apart - shift, UNITS + apart, apart):
        for u in range(-apart - shift, UNITS + apart, apart):
            yield u + apart // 2 + rng.randint(-apart, apart) // 5, v + apart // 2 + rng.randint(-apart, apart) // 5


def _corner(x: int, y: int, radius: float, turn: float) -> tuple[int, int]:
    return x + round(radius * math.cos(math.tau * turn)), y + round(radius * math.sin(math.tau * turn))


def _filled(grid: Grid, shapes: list[tuple[list[tuple[int, int]], int]]) -> Grid:
    side = len(grid)
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for outline, colour in shapes:
        pen.polygon([(x * side // UNITS, y * side // UNITS) for x, y in outline], fill=colour)
    return np.asarray(image, dtype=np.int64)


def _regular(count: int) -> list[tuple[float, float]]:
    return [(i / count, 1.0) for i in range(count)]


STAR = [(i / 10, 0.45 if i % 2 else 1.0) for i in range(10)]
STRIP = [(0.06, 1.0), (0.44, 1.0), (0.56, 1.0), (0.94, 1.0)]
PATTERNS: Mapping[str, Pattern] = {
    "stripes": Pattern(_stripes, LINES),
    "rings": Pattern(_rings, LINES),
    "dots": Pattern(_dots, PARTS, on_ground=True),
    "checks": Pattern(_checks, PARTS),
    "stars": Pattern(_scattered(STAR), PARTS, on_ground=True),
    "waves": Pattern(_waves, LINES),
    "fade": Pattern(_fade, {"": (1, 1)}, smooth=True),
    "discs": Pattern(_scattered(_regular(36)), PARTS, on_ground=True),
    "plaid": Pattern(_plaid, PARTS, smooth=True),
    "shards": Pattern(_shards, PARTS),
    "zigzag": Pattern(_zigzag, LINES),
    "boxes": Pattern(_scattered(_regular(4)), PARTS, on_ground=True),
    "rays": Pattern(_rays, LINES),
    "arcs": Pattern(_arcs, PARTS, on_ground=True),
    "camo": Pattern(_camo, PARTS),
    "confetti": Pattern(_scattered(STRIP, packed=2), PARTS, on_ground=True),
    "diamonds": Pattern(_diamonds, PARTS),
    "grid": Pattern(_grid, LINES, on_ground=True),
    "wedges": Pattern(_wedges, PARTS),
    "crosses": Pattern(_crosses, PARTS, on_ground=True),
    "frames": Pattern(_frames, LINES),
    "hexagons": Pattern(_scattered(_regular(6)), PARTS, on_ground=True),
}
