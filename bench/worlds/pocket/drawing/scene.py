"""Backgrounds, light and placement. `compose` makes a finished plain image from a drawn subject."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from bench.worlds.pocket.drawing.pen import SIZE, SUPERSAMPLE, Colour, Pen, mix

BIG = SIZE * SUPERSAMPLE

# colours of each scene: sky at the top, sky at the horizon, near ground, far ground
SCENES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "noon": ((96, 176, 232), (206, 232, 246), (92, 164, 70), (132, 192, 92)),
    "meadow": ((150, 206, 160), (222, 238, 202), (70, 138, 66), (112, 172, 86)),
    "dusk": ((94, 74, 134), (244, 166, 128), (86, 72, 84), (126, 92, 96)),
    "beach": ((118, 196, 226), (232, 242, 240), (222, 192, 134), (240, 218, 166)),
    "autumn": ((214, 190, 160), (248, 228, 196), (142, 100, 62), (178, 132, 84)),
    "studio": ((206, 208, 222), (236, 236, 242), (190, 190, 204), (214, 214, 226)),
}

Draw = Callable[[Pen, Any, random.Random], None]


def gradient(top: Colour, bottom: Colour, size: tuple[int, int]) -> Image.Image:
    """An RGB image of `size` (width, height) with a vertical gradient from `top` to `bottom`."""
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def background(scene: str, rng: random.Random) -> tuple[Image.Image, float]:
    """A scene without its subject, RGB 256 x 256, and the y of its horizon in image units (0..64, y down)."""
    sky_top, sky_low, near, far = SCENES[scene]
    horizon = rng.uniform(38.0, 46.0)
    line = round(horizon * SUPERSAMPLE)
    image = gradient(sky_top, sky_low, (BIG, BIG))
    pen = Pen(image)
    if scene == "dusk":
        x, y, r = rng.uniform(8, 56), horizon - rng.uniform(0, 6), rng.uniform(4, 6)
        pen.ellipse((x, y), r, r, (255, 214, 150))
    elif scene in ("noon", "beach"):
        for _ in range(rng.randint(1, 2)):
            x, y, r = rng.uniform(4, 60), rng.uniform(5, 18), rng.uniform(2.5, 4)
            for dx, dy, k in ((-r * 1.2, 0.6, 0.7), (0, 0, 1.0), (r * 1.2, 0.7, 0.7)):
                pen.ellipse((x + dx, y + dy), r * k * 1.5, r * k * 0.8, (250, 252, 255))
    elif scene in ("meadow", "autumn"):
        for _ in range(rng.randint(3, 5)):
            x, r = rng.uniform(0, 64), rng.uniform(5, 10)
            pen.ellipse((x, horizon - r * 0.2), r, r * rng.uniform(0.7, 1.1), mix(sky_low, far, rng.uniform(0.3, 0.6)))
    image.paste(gradient(far, near, (BIG, BIG - line)), (0, line))
    if scene != "studio":
        hill = mix(far, sky_low, 0.35)
        rise = rng.uniform(1.5, 4)
        x0 = rng.uniform(-10, 30)
        pen.blob([(x0, horizon), (x0 + 14, horizon - rise), (x0 + 34, horizon - rise * 0.6), (x0 + 48, horizon)], hill)
        ImageDraw.Draw(image).rectangle((0, line, BIG, line + 3), fill=far)
    return image, horizon


def light(layer: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Shade the subject with light from above: it is brighter at its top and darker at its bottom.

    A random tint makes the colours a little warmer or cooler. `subject` is the mask (L) of the subject in `layer`
    (RGB).
    """
    box = subject.getbbox()
    if box is None:
        return layer
    height = box[3] - box[1]
    ramp = gradient((255, 255, 255), (196, 192, 206), (BIG, height))
    shade = Image.new("RGB", (BIG, BIG), (255, 255, 255))
    shade.paste(ramp, (0, box[1]))
    tint = (255, 255 - rng.randint(0, 10), 255 - rng.randint(0, 16))
    return ImageChops.multiply(ImageChops.multiply(layer, shade), Image.new("RGB", layer.size, tint))


def compose(domain: str, row: Any, draw: Draw, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """Draw one subject into one scene.

    Returns the image (RGB) and the mask of the subject (L, 0 or 255). Both are supersampled (256 x 256).
    """
    image, horizon = background(rng.choice(tuple(SCENES)), rng)
    scale = rng.uniform(0.9, 1.08)
    mirror = rng.random() < 0.5
    x = 32 + rng.uniform(-3.5, 3.5)
    if domain == "dog":
        y = min(56.0, max(horizon + 8, 52.0 + rng.uniform(-2, 4)))
        Pen(image).ellipse((x, y + 0.4), 19 * scale, 2.4, mix(image.getpixel((8, round(y * 4) - 1)), (20, 20, 30), 0.4))  # type: ignore[arg-type]
    elif domain == "flower":
        y = 62.0
    else:
        y = 46.0 + rng.uniform(-2, 3)
        perch(image, y, rng)
    key = (255, 0, 255)  # the drawings of subjects never use this colour
    layer = Image.new("RGB", image.size, key)
    draw(Pen(layer, (x, y), scale, rng.uniform(-4, 4), mirror), row, rng)
    apart = ImageChops.difference(layer, Image.new("RGB", layer.size, key)).split()
    subject = ImageChops.lighter(ImageChops.lighter(apart[0], apart[1]), apart[2]).point([0] + [255] * 255)
    picture = Image.composite(light(layer, subject, rng), image, subject)
    return picture, subject


def perch(image: Image.Image, y: float, rng: random.Random) -> None:
    """Draw a branch with one to three leaves at height `y` (image units) into `image`."""
    bark = (112, 78, 56)
    tilt = rng.uniform(-2, 2)
    pen = Pen(image)
    pen.taper([(-2, y + tilt + 1), (20, y + 0.8), (44, y + 1.2), (66, y - tilt + 1)], [3.4, 2.8, 2.6, 2.0], bark)
    for _ in range(rng.randint(1, 3)):
        lx = rng.choice((rng.uniform(2, 14), rng.uniform(50, 62)))
        pen.ellipse((lx, y - 1.6), 3.2, 1.5, (86, 150, 74), angle=rng.uniform(-50, 50))
