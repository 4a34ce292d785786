"""The six styles. Each style depicts the same scene in another way.

The filters use only Pillow's integer operations: box averages, look-up tables, masks and saturating sums. An image in a
style is therefore the same on every machine, to the bit. Patterns (hatching, grids, tiles) have fixed positions in the
image. Strokes are at least 1.2 px wide at 64 px, except grout and squared paper, so that a small latent model can learn
them. Filters work at 128 px. The renderer then halves the image, and this step smooths the hard masks.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise

from PIL import Image, ImageChops, ImageFilter

from bench.worlds.pocket.drawing.pen import Colour

STYLES = ("photo", "sketch", "mosaic", "watercolour", "neon", "blueprint")
NEAREST = Image.Resampling.NEAREST
WORK = 128  # side of an image in a filter; lengths below are in its pixels (half pixels at 64 px), unless stated

PAPER: Colour = (250, 244, 230)
GRAPHITE: Colour = (58, 54, 62)
GROUT: Colour = (52, 46, 50)
SMALL_TILE, LARGE_TILE = 12, 24  # pixels at 256 px (3 and 6 px at 64 px): subject, background
CLOUDS = 8  # blotches of a wash on each side of the image; large blotches add no detail
INDIGO: Colour = (14, 8, 34)
PRUSSIAN: Colour = (22, 58, 124)
BLUES = ((30, (6, 18, 50)), (110, (34, 80, 156)), (180, (76, 134, 202)), (240, (146, 198, 240)))  # (tone, colour)
CHALK: Colour = (240, 247, 255)
GRID = 16  # side of a blueprint square: 8 px at 64 px, two latent cells of a 4x encoder


@cache
def _ramp(*knots: tuple[int, int]) -> list[int]:
    """A look-up table for 0..255 through `knots` (input, output), in integers.

    The table is linear between two knots and constant outside of the knots.
    """
    table = [knots[0][1]] * knots[0][0]
    for (x0, y0), (x1, y1) in pairwise((*knots, (256, knots[-1][1]))):
        table += [y0 + (y1 - y0) * (v - x0) // (x1 - x0) for v in range(x0, x1)]
    return table


def _flat(colour: Colour) -> Image.Image:
    """An RGB image of one colour, 128 x 128."""
    return Image.new("RGB", (WORK, WORK), colour)


def _tint(tone: Image.Image, *knots: tuple[int, Colour]) -> Image.Image:
    """Map a grey image (L) to colours (RGB) through `knots` (tone, colour)."""
    return Image.merge("RGB", [tone.point(_ramp(*((t, c[band]) for t, c in knots))) for band in range(3)])


def _brightest(picture: Image.Image) -> Image.Image:
    """The largest of the three channels at each pixel, L."""
    r, g, b = picture.split()
    return ImageChops.lighter(ImageChops.lighter(r, g), b)


def _chroma(picture: Image.Image) -> Image.Image:
    """The image without its grey part. The result is pure hue, as strong as the saturation of the image."""
    grey = ImageChops.invert(_brightest(ImageChops.invert(picture)))
    return ImageChops.subtract(picture, Image.merge("RGB", (grey,) * 3))


def _blurred(picture: Image.Image, radius: int) -> Image.Image:
    """A wide Gaussian blur, computed at the final size. The last halving would remove finer steps."""
    return picture.reduce(2).filter(ImageFilter.GaussianBlur(radius // 2)).resize(picture.size, NEAREST)


def _masked(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The image inside of `mask`, on black."""
    return ImageChops.multiply(picture, Image.merge("RGB", (mask,) * 3))


def _rim(mask: Image.Image, width: int) -> Image.Image:
    """A mask of the subject's outline. The outline is about `width` wide and centred on the edge of the subject."""
    return mask.filter(ImageFilter.BoxBlur(width)).point(_ramp((50, 0), (90, 255), (165, 255), (205, 0)))


def _inner(alone: Image.Image) -> Image.Image:
    """A mask of the lines inside the subject. `alone` is the subject on black.

    A pixel belongs to a line if one of its channels is darker than its surroundings. An inked outline gives one line,
    whereas a gradient filter would give two lines. Where two areas meet, the line is on the darker side.
    """
    around, here = alone.filter(ImageFilter.BoxBlur(4)), alone.filter(ImageFilter.BoxBlur(1))
    return _brightest(ImageChops.subtract(around, here)).point(_ramp((14, 0), (44, 255)))


def _landmarks(picture: Image.Image) -> Image.Image:
    """A mask of faint lines along the large forms: horizon, hills, branch and clouds."""
    around, here = (picture.convert("L").filter(ImageFilter.BoxBlur(radius)) for radius in (5, 2))
    return ImageChops.subtract(around, here).point(_ramp((4, 0), (24, 90)))


@cache
def _stripes(period: int, width: int, slope: int) -> Image.Image:
    """A mask of parallel strokes. Slope 1 is '/', slope -1 is a backslash, slope 0 is horizontal."""
    marks = (255 * ((slope * x + y) % period < width) for y in range(WORK) for x in range(WORK))
    return Image.frombytes("L", (WORK, WORK), bytes(marks))


@cache
def _grid(period: int, width: int) -> Image.Image:
    """A mask of squared paper: lines of `width` every `period` pixels."""
    level = _stripes(period, width, 0)
    return ImageChops.lighter(level, level.transpose(Image.Transpose.TRANSPOSE))


def photo(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """The scene without a change."""
    return picture


def sketch(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Graphite on warm paper: contours, hatching for dark tones, and a wash of coloured pencil on the subject only."""
    small, mask = picture.reduce(2), subject.reduce(2)
    tone = small.convert("L").filter(ImageFilter.BoxBlur(2))
    wash = ImageChops.screen(small, _flat((84, 80, 74)))
    # Two hatches cross. The second hatch is only in the darkest areas. Their period is one latent cell of a 4x encoder.
    mid = ImageChops.multiply(tone.point(_ramp((110, 150), (165, 0))), _stripes(8, 4, 1))
    dark = ImageChops.multiply(tone.point(_ramp((55, 150), (90, 0))), _stripes(8, 4, -1))
    contours = _inner(_masked(small, mask)).point(_ramp((0, 0), (255, 191)))
    drawn = Image.composite(_flat(GRAPHITE), wash, ImageChops.lighter(ImageChops.lighter(mid, dark), contours))
    sheet = Image.composite(_flat(GRAPHITE), _flat(PAPER), _landmarks(small))
    return Image.composite(_flat(GRAPHITE), Image.composite(drawn, sheet, mask), _rim(mask, 2))


def mosaic(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Small tiles for the subject and large tiles for the background, cut at the outline and set in dark grout."""
    halves: list[Image.Image] = []
    for tile, mask in ((SMALL_TILE, subject), (LARGE_TILE, ImageChops.invert(subject))):
        n = -(-picture.width // tile)
        # average only pixels of this part, so that the background does not colour the edge of the subject
        kept, cover = _masked(picture, mask).reduce(tile).tobytes(), mask.reduce(tile).tobytes()
        out = bytearray()
        for i, c in enumerate(cover):
            glaze = rng.randint(240, 262) if c else 0
            out += bytes(min(255, v * glaze // max(c, 1)) for v in kept[3 * i : 3 * i + 3])
        tiles = Image.frombytes("RGB", (n, n), bytes(out)).resize((n * tile, n * tile), NEAREST)
        halves.append(tiles.crop((0, 0, *picture.size)).reduce(2))
    mask = subject.reduce(2)
    # a third of the drawing shows through the small tiles, because the tiles alone would hide eyes and petal edges
    veiled = Image.composite(picture.reduce(2), halves[0], Image.new("L", (WORK, WORK), 90))
    face = Image.composite(veiled, halves[1], mask)
    joints = Image.composite(_grid(SMALL_TILE // 2, 1), _grid(LARGE_TILE // 2, 1), mask)
    joints = ImageChops.multiply(joints, mask.point(_ramp((0, 102), (255, 153))))
    return Image.composite(_flat(GROUT), face, ImageChops.lighter(joints, _rim(mask, 1)))


def watercolour(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Transparent washes on white paper. Pigment collects at edges and in pools, and the background is pale."""
    small, mask = picture.reduce(2), subject.reduce(2)
    specks = Image.frombytes("L", (CLOUDS, CLOUDS), bytes(rng.randint(64, 191) for _ in range(CLOUDS**2)))
    clouds = _blurred(specks.resize(small.size, NEAREST), WORK // CLOUDS // 2)
    # the wash darkens the paper, and more pigment collects where the clouds are dark
    wash = _masked(ImageChops.screen(small, _flat((40, 38, 36))), clouds.point(_ramp((88, 218), (145, 255))))
    edge = ImageChops.lighter(_rim(mask, 2), _inner(_masked(small, mask)).point(_ramp((0, 0), (255, 127))))
    wash = _masked(wash, edge.point(_ramp((0, 255), (255, 150))))
    far = ImageChops.screen(_blurred(small, 6), _flat((132, 128, 122)))
    # the background is a blot with a ragged border around the subject
    blot = Image.new("L", (WORK, WORK), 0)
    blot.paste(255, (12, 12, WORK - 12, WORK - 12))
    blot = ImageChops.add(blot.filter(ImageFilter.BoxBlur(10)), clouds, 2).point(_ramp((116, 0), (136, 255)))
    ground = Image.composite(far, _flat((253, 251, 246)), blot)
    return Image.composite(wash, ground, mask.filter(ImageFilter.BoxBlur(1)))


def neon(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Glowing tubes on indigo, in the full hue of the subject. A dim fill under the tubes keeps the subject's tones."""
    small, mask = picture.reduce(2), subject.reduce(2)
    alone = _masked(small, mask)  # the background must not change the hue
    hue = _chroma(alone.filter(ImageFilter.BoxBlur(2)))
    # Greys have no hue. Dark greys become violet and light greys become cyan-white. The lightest tone nearby decides,
    # so that an inked line gets the tone of the area that it encloses.
    tone = alone.convert("L").reduce(2).filter(ImageFilter.MaxFilter(3)).resize(small.size, NEAREST)
    grey = _tint(tone, (40, (124, 60, 255)), (130, (60, 130, 255)), (220, (190, 255, 255)))
    coloured = _brightest(hue).point(_ramp((22, 0), (48, 255)))
    vivid = Image.composite(hue.point(_ramp((0, 0), (64, 255)) * 3), grey, coloured)
    rim = mask.filter(ImageFilter.BoxBlur(3)).point(_ramp((90, 0), (120, 255), (215, 255), (255, 0)))
    tubes = _masked(vivid, ImageChops.multiply(ImageChops.lighter(rim, _inner(alone)), mask))
    fill = alone.point(_ramp((40, 0), (150, 72), (255, 172)) * 3)
    return ImageChops.screen(ImageChops.screen(ImageChops.lighter(_flat(INDIGO), fill), _blurred(tubes, 4)), tubes)


def blueprint(picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """White lines on squared paper in Prussian blue. Tones become blues. Warm and cool areas differ in hatching."""
    small, mask = picture.reduce(2), subject.reduce(2)
    fill = _tint(small.convert("L"), *BLUES)
    red, _, blue = small.filter(ImageFilter.BoxBlur(1)).split()
    warm = ImageChops.subtract(red, blue).point(_ramp((50, 0), (100, 110)))
    cool = ImageChops.subtract(blue, red).point(_ramp((30, 0), (80, 110)))
    for hatch in (ImageChops.multiply(warm, _stripes(8, 3, 1)), ImageChops.multiply(cool, _stripes(8, 3, 0))):
        fill = Image.composite(_flat(CHALK), fill, hatch)
    faint = ImageChops.lighter(_grid(GRID, 2).point(_ramp((0, 0), (255, 42))), _landmarks(small))
    sheet = Image.composite(_flat(CHALK), _flat(PRUSSIAN), faint)
    lines = ImageChops.lighter(_rim(mask, 2), ImageChops.multiply(_inner(_masked(small, mask)), mask))
    return Image.composite(_flat(CHALK), Image.composite(fill, sheet, mask), lines)


Filter = Callable[[Image.Image, Image.Image, random.Random], Image.Image]
FILTERS: dict[str, Filter] = {f.__name__: f for f in (photo, sketch, mosaic, watercolour, neon, blueprint)}


def find_style(name: str) -> str:
    """`name` if it is a style. Raises ValueError for an unknown style. The error lists the nearest known styles."""
    if name in STYLES:
        return name
    near = difflib.get_close_matches(name.lower(), STYLES, n=3, cutoff=0.4) or STYLES
    raise ValueError(f"unknown style {name!r}; nearest known: {', '.join(near)} (all: {', '.join(STYLES)})")


def apply(style: str, picture: Image.Image, subject: Image.Image, rng: random.Random) -> Image.Image:
    """Depict `picture` (RGB, 256 x 256) in `style`. `subject` is the mask of its foreground (L, 0 or 255, same size).

    Returns an RGB image with sides of 256 or 128 px. Raises ValueError for an unknown style.
    """
    return FILTERS[find_style(style)](picture, subject, rng)
