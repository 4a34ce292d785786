"""A pen that draws smooth shapes on a supersampled image.

The pen rounds coordinates to the supersampled grid and draws with Pillow's integer rasteriser. Box averages reduce the
image to its final size. The image is therefore the same on every machine, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

SIZE = 64  # side of a finished image, in pixels
SUPERSAMPLE = 4

Colour = tuple[int, int, int]
Point = tuple[float, float]


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The linear mix of two colours: `a` at t = 0, `b` at t = 1. The components are rounded to integers in 0..255."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def darker(colour: Colour, amount: float = 0.35) -> Colour:
    """`colour` mixed with a warm near-black, for outlines and shaded sides. `amount` is the share of the near-black."""
    return mix(colour, (28, 22, 34), amount)


def lighter(colour: Colour, amount: float = 0.35) -> Colour:
    """`colour` mixed with white, for lit sides and highlights. `amount` is the share of white."""
    return mix(colour, (255, 255, 255), amount)


def curve(points: Sequence[Point], closed: bool, steps: int = 6) -> list[Point]:
    """Points of a Catmull-Rom spline through `points`, with `steps` samples per segment."""
    n = len(points)
    if n < 3:
        return list(points)
    out: list[Point] = []
    for i in range(n if closed else n - 1):
        p0, p1, p2, p3 = (points[j % n] if closed else points[min(max(j, 0), n - 1)] for j in (i - 1, i, i + 1, i + 2))
        for k in range(steps):
            t = k / steps
            a, b, c, d = (
                -t * (1 - t) ** 2 / 2,
                (2 - 5 * t * t + 3 * t**3) / 2,
                t * (1 + 4 * t - 3 * t * t) / 2,
                -t * t * (1 - t) / 2,
            )
            out.append((a * p0[0] + b * p1[0] + c * p2[0] + d * p3[0], a * p0[1] + b * p1[1] + c * p2[1] + d * p3[1]))
    if not closed:
        out.append(points[-1])
    return out


@dataclass
class Pen:
    """A pen that draws in a local frame, which is mirrored, rotated and scaled about `origin`.

    `origin` is in image units (0..64, y down). `angle` is in degrees, clockwise on screen. With `mirror`, local x runs
    to the left. All lengths in calls of the drawing methods are in local units. One local unit is `scale` image units.
    """

    image: Image.Image
    origin: Point = (0.0, 0.0)
    scale: float = 1.0
    angle: float = 0.0
    mirror: bool = False
    draw: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)
        self._unit = self.scale * self.image.width / SIZE
        self._cos, self._sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))

    def _map(self, points: Sequence[Point]) -> list[Point]:
        s, k = self._unit, self.image.width / SIZE
        flip = -1.0 if self.mirror else 1.0
        return [
            (
                round(self.origin[0] * k + flip * s * (x * self._cos - y * self._sin)),
                round(self.origin[1] * k + s * (x * self._sin + y * self._cos)),
            )
            for x, y in points
        ]

    def polygon(self, points: Sequence[Point], fill: Colour, outline: Colour | None = None, width: float = 0.7) -> None:
        """Draw a filled polygon with straight sides. Its outline has `width` local units and is centred on the edge."""
        xy = self._map(points)
        self.draw.polygon(xy, fill=fill)
        if outline is not None:
            self.draw.line([*xy, xy[0], xy[1]], fill=outline, width=max(1, round(width * self._unit)), joint="curve")

    def blob(self, points: Sequence[Point], fill: Colour, outline: Colour | None = None, width: float = 0.7) -> None:
        """Draw a filled smooth closed shape through `points`."""
        self.polygon(curve(points, closed=True), fill, outline, width)

    def ellipse(
        self,
        centre: Point,
        rx: float,
        ry: float,
        fill: Colour,
        outline: Colour | None = None,
        angle: float = 0.0,
        width: float = 0.7,
    ) -> None:
        """Draw a filled ellipse with half axes `rx`, `ry`, turned by `angle` degrees about its own centre."""
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        n = max(10, min(40, round(4 * math.sqrt(max(rx, ry) * self._unit))))
        ring = [(rx * math.cos(2 * math.pi * i / n), ry * math.sin(2 * math.pi * i / n)) for i in range(n)]
        self.polygon([(centre[0] + x * c - y * s, centre[1] + x * s + y * c) for x, y in ring], fill, outline, width)

    def line(self, points: Sequence[Point], width: float, fill: Colour, smooth: bool = True) -> None:
        """Draw a line with round ends and constant `width` through `points`."""
        xy = self._map(curve(points, closed=False) if smooth else points)
        w = max(1, round(width * self._unit))
        self.draw.line(xy, fill=fill, width=w, joint="curve")
        if w > 2:
            for x, y in (xy[0], xy[-1]):
                self.draw.ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), fill=fill)

    def taper(
        self, points: Sequence[Point], widths: Sequence[float], fill: Colour, outline: Colour | None = None
    ) -> None:
        """Draw a limb: a smooth band through `points`. Its full width at point i is `widths[i]`."""
        path = curve(points, closed=False)
        per = (len(path) - 1) / (len(points) - 1)
        left, right = [], []
        for i, (x, y) in enumerate(path):
            ax, ay = path[max(i - 1, 0)]
            bx, by = path[min(i + 1, len(path) - 1)]
            norm = math.hypot(bx - ax, by - ay) or 1.0
            nx, ny = -(by - ay) / norm, (bx - ax) / norm
            j = min(int(i / per), len(points) - 2)
            t = i / per - j
            w = (widths[j] * (1 - t) + widths[j + 1] * t) / 2
            left.append((x + nx * w, y + ny * w))
            right.append((x - nx * w, y - ny * w))
        self.polygon(left + right[::-1], fill, outline)
