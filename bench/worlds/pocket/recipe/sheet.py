"""Write contact sheets of rendered images and of generated images: rows are species, columns are styles.

python -m bench.worlds.pocket.recipe.sheet --rendered docs/pocket-rendered.jpg --generated docs/pocket-generated.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from bench.backbones import pipeline
from bench.backbones.sampler import ImageSpec, sample
from bench.core import device
from bench.worlds.pocket.drawing import captions
from bench.worlds.pocket.drawing.dataset import FIRST_SEED
from bench.worlds.pocket.drawing.pen import SIZE
from bench.worlds.pocket.drawing.renderer import render
from bench.worlds.pocket.drawing.species import NAMES
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.weights import WEIGHTS
from bench.worlds.pocket.world import POCKET

LABEL = 128  # width in pixels of the left margin, which has the names of the species


def sheet(
    rows: Sequence[Sequence[np.ndarray]], names: Sequence[str], columns: Sequence[str], zoom: int = 2
) -> Image.Image:
    """A grid of uint8 images (64, 64, 3), enlarged by `zoom`, with a name for each row and a title for each style."""
    side, per = SIZE * zoom, len(rows[0]) // len(columns)
    out = Image.new("RGB", (LABEL + side * len(rows[0]), 24 + side * len(rows)), (252, 252, 252))
    pen, font = ImageDraw.Draw(out), ImageFont.load_default(14)
    for i, title in enumerate(columns):
        pen.text((LABEL + i * per * side + 6, 4), title, fill=(40, 40, 50), font=font)
    for y, (name, row) in enumerate(zip(names, rows, strict=True)):
        pen.text((6, 24 + y * side + side // 2 - 8), name, fill=(40, 40, 50), font=font)
        for x, picture in enumerate(row):
            tile = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
            out.paste(tile, (LABEL + x * side, 24 + y * side))
    return out


def rendered() -> Image.Image:
    """Every species in every style, two images each, from seeds of images that the models never saw."""
    seed = FIRST_SEED["reference"] + 1000
    rows = [[render(name, s, seed + k) for s in STYLES for k in (0, 1)] for name in NAMES]
    return sheet(rows, NAMES, STYLES)


def generated(folder: Path = WEIGHTS, per_style: int = 2) -> Image.Image:
    """Generated images of each species in each style, without selection, from the model in `folder`.

    The prompts use the evaluation templates in turn.
    """
    model = pipeline.load(folder / "pipeline", device.default_device())
    specs = [
        ImageSpec(captions.caption(captions.EVALUATE[k % len(captions.EVALUATE)], name, style), k)
        for name in NAMES
        for style in STYLES
        for k in range(per_style)
    ]
    with torch.no_grad():
        images = sample(model, specs, POCKET.protocol, seed=0, batch_size=64)
    pictures = images.permute(0, 2, 3, 1).numpy()
    width = len(STYLES) * per_style
    rows = [list(pictures[i : i + width]) for i in range(0, len(pictures), width)]
    return sheet(rows, NAMES, STYLES)


def main(argv: list[str] | None = None) -> None:
    """Command line of `python -m bench.worlds.pocket.recipe.sheet`."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.worlds.pocket.recipe.sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rendered", type=Path, metavar="FILE", help="write the renderer's sheet here")
    parser.add_argument("--generated", type=Path, metavar="FILE", help="write the model's sheet here")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, metavar="DIR", help="weights folder (default: the committed one)"
    )
    args = parser.parse_args(argv)
    if not (args.rendered or args.generated):
        parser.error("name at least one of --rendered and --generated")
    if args.rendered:
        rendered().save(args.rendered, quality=88)
    if args.generated:
        generated(args.weights).save(args.generated, quality=88)


if __name__ == "__main__":
    main()
