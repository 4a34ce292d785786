"""The command `strip`: draws stored images of several methods side by side."""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from bench.cells.artifacts import Artifacts, Context
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.registry import nearest
from bench.core.store import output_files
from bench.core.text.printable import printable
from bench.core.text.terminal import say
from bench.plan.plan import resolve

ABOUT = """\
Draw images from the store side by side. Each row is a method. All images of a
column have the same prompt and the same noise. The cells must be finished: give the
flags of the run that computed them."""
EPILOG = """\
example:
  python run_bench.py strip --methods mimmu salun --task "red rose" \\
      --show "red rose" "tea rose" daisy --to strip.png"""
LEFT, TOP, GAP = 130, 30, 10  # pixels: left of the images for names, above them for titles, between concepts
LINE = 18  # pixels of a line of text
NARROWEST = 120  # pixels of a title that stands above narrower images
INK = (30, 30, 40)  # colour of the text, RGB
LACKING = "\uffff"  # no font has this character, so it is drawn as the sign for a missing character
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def strip(
    images: dict[str, dict[str, torch.Tensor]],
    titles: dict[str, str],
    zoom: int,
    paper: tuple[int, int, int] = (255,) * 3,
) -> Image.Image:
    """One picture with a row for each method and a group of columns for each concept.

    Args:
        images: method -> concept -> uint8 (n, 3, H, W). All have the same shape.
        titles: concept -> title above its columns.
        zoom: side of a pixel of an image, in pixels of the result.
        paper: colour of the background, RGB, 0 to 255.
    """
    first = next(iter(images.values()))
    count, _, height, width = next(iter(first.values())).shape
    side_x, side_y = width * zoom, height * zoom
    block = count * side_x + GAP
    font = ImageFont.load_default(15)
    heads = [folded(titles[concept], font, max(block - 4, NARROWEST)) for concept in first]
    names = [folded(method, font, LEFT - 12) for method in images]
    top = TOP + LINE * (max(map(len, heads)) - 1)
    rows = [max(side_y, LINE * len(lines)) for lines in names]
    out = Image.new("RGB", (LEFT + block * len(first) - GAP, top + sum(rows)), paper)
    pen = ImageDraw.Draw(out)
    for column, lines in enumerate(heads):
        pen.text((LEFT + column * block + 2, 6), "\n".join(lines), fill=INK, font=font, spacing=LINE - 15)
    for row, (lines, shown) in enumerate(zip(names, images.values(), strict=True)):
        y = top + sum(rows[:row])
        middle = y + (rows[row] - LINE * len(lines)) // 2
        pen.text((6, middle), "\n".join(lines), fill=INK, font=font, spacing=LINE - 15)
        for column, pictures in enumerate(shown.values()):
            for i, picture in enumerate(pictures):
                tile = Image.fromarray(picture.permute(1, 2, 0).numpy())
                tile = tile.resize((side_x, side_y), Image.Resampling.BICUBIC)
                out.paste(tile, (LEFT + column * block + i * side_x, y))
    return out


def drawable(text: str, font: Font) -> str:
    """`text` with escape sequences in place of the characters that a terminal would obey or that the font lacks."""
    lacking = bytes(font.getmask(LACKING))
    shown = printable(text)
    drawn = {c: bytes(font.getmask(c)) != lacking or c.isspace() for c in set(shown) if not c.isascii()}
    return "".join(c if drawn.get(c, True) else c.encode("unicode_escape").decode("ascii") for c in shown)


def folded(text: str, font: Font, width: int) -> list[str]:
    """`drawable(text)` in lines of at most `width` pixels, broken at spaces where that is possible."""
    lines, rest = [], drawable(text, font)
    while rest:
        starts = [rest[:n] for n in range(1, min(len(rest), width) + 1)]  # a visible character is at least a pixel wide
        fits = max(1, bisect_right(starts, float(width), key=lambda line: float(font.getlength(line))))
        if fits < len(rest) and (space := rest.rfind(" ", 1, fits + 1)) > 0:
            fits = space + 1
        lines.append(rest[:fits])
        rest = rest[fits:]
    return lines or [""]


def gather(run: RunConfig, task: str, concepts: Sequence[str], count: int) -> dict[str, dict[str, torch.Tensor]]:
    """Method -> concept -> its first `count` evaluation images, uint8 (count, 3, H, W), read from the store.

    Args:
        run: the run. Its first training seed is shown.
        task: name of a task of the run.
        concepts: concepts of the run.
        count: number of images of each concept.

    Raises ValueError if the run does not have the task or a concept, or if the store lacks images.
    """
    plan = resolve(run)
    tasks = [t.name for t in plan.tasks]
    if task not in tasks:
        raise ValueError(f"suite {run.suite!r} has no task {task!r}: {nearest(task, tasks)}")
    for concept in concepts:
        if concept not in plan.concepts:
            raise ValueError(f"no concept {concept!r}: {nearest(concept, plan.concepts)}")
    artifacts = Artifacts(Context(plan))
    out: dict[str, dict[str, torch.Tensor]] = {}
    for cell in plan.cells:
        if cell.task.name != task or cell.seed != run.seeds[0] or cell.method == "wrecked":
            continue
        weights = artifacts.store.get("deltas", artifacts.weights.key(cell), verify=False)
        taken = weights and artifacts.store.get("images", artifacts.images.key(weights))
        if not taken:
            raise ValueError(f"{cell.name} is not in {artifacts.store.root}: run it first")
        kept = taken.tensors("images", "shown")
        row = {index: i for i, index in enumerate(kept["shown"].tolist())}
        rows = {c: [i for concept, i in artifacts.context.requested if concept == c][:count] for c in concepts}
        if missing := [c for c, indices in rows.items() if not set(indices) <= set(row)]:
            raise ValueError(f"the store has fewer than {count} images of {missing[0]!r}: give a smaller --count")
        out[cell.method] = {c: kept["images"][[row[i] for i in indices]] for c, indices in rows.items()}
    return out


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `strip`: those of a run, and the task, concepts and file."""
    p.add_argument("--task", required=True, help="name of the task, e.g. the forgotten concept")
    p.add_argument("--show", nargs="+", required=True, metavar="CONCEPT", help="concepts to show, from left to right")
    p.add_argument(
        "--count",
        type=arguments.whole_number(1, 1000),
        default=3,
        metavar="N",
        help="images of each concept (default: 3)",
    )
    p.add_argument(
        "--zoom",
        type=arguments.whole_number(1, 64),
        default=2,
        metavar="N",
        help="factor by which images are enlarged (default: 2)",
    )
    p.add_argument("--to", type=arguments.typed(Path), required=True, metavar="FILE", help="the image file to write")
    arguments.add_run(p)


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Draw the strip and write it. Returns 0."""
    with arguments.refusing():
        arguments.require_writable_file(args.to, "--to", "strip.png")
        known = Image.registered_extensions()  # also loads what writes them
        kind = known.get(args.to.suffix.lower())
        if kind not in Image.SAVE:
            raise ValueError(f"--to {args.to}: no kind of picture has the ending {args.to.suffix!r}; take .png or .jpg")
        images = gather(arguments.run_config(args), args.task, args.show, args.count)
        titles = {c: f"{c} (forgotten)" if c == args.task else c for c in args.show}
    with output_files.replacing(args.to) as work:
        strip(images, titles, args.zoom).save(work, format=kind)
    say(console, f"written: {args.to}")
    return 0
