"""The command `strip`: pictures of several methods side by side, from the store."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from bench.cells.artifacts import Artifacts, Context
from bench.commands import arguments
from bench.core.config import RunConfig
from bench.core.registry import nearest
from bench.plan.plan import resolve

ABOUT = """\
Draw pictures from the store side by side: a row for each method, the same prompt
and the same noise in each column. The cells must be finished: give the flags of
the run that computed them."""
EPILOG = """\
example:
  python run_bench.py strip --methods mimmu salun --task "red rose" \\
      --show "red rose" "tea rose" daisy --to strip.png"""
LEFT, TOP, GAP = 130, 30, 10  # room for names, for titles, and between concepts


def strip(
    images: dict[str, dict[str, torch.Tensor]],
    titles: dict[str, str],
    zoom: int,
    paper: tuple[int, int, int] = (255,) * 3,
) -> Image.Image:
    """Rows by method, column groups by concept.

    Args:
        images: method -> concept -> uint8 (n, 3, H, W), the same shape everywhere.
        titles: concept -> what stands above its group.
    """
    first = next(iter(images.values()))
    count, _, height, width = next(iter(first.values())).shape
    side_x, side_y = width * zoom, height * zoom
    block = count * side_x + GAP
    out = Image.new("RGB", (LEFT + block * len(first) - GAP, TOP + side_y * len(images)), paper)
    pen, font = ImageDraw.Draw(out), ImageFont.load_default(15)
    for row, (method, shown) in enumerate(images.items()):
        pen.text((6, TOP + row * side_y + side_y // 2 - 9), method, fill=(30, 30, 40), font=font)
        for column, (concept, pictures) in enumerate(shown.items()):
            pen.text((LEFT + column * block + 2, 6), titles[concept], fill=(30, 30, 40), font=font)
            for i, picture in enumerate(pictures):
                tile = Image.fromarray(picture.permute(1, 2, 0).numpy())
                tile = tile.resize((side_x, side_y), Image.Resampling.BICUBIC)
                out.paste(tile, (LEFT + column * block + i * side_x, TOP + row * side_y))
    return out


def gather(run: RunConfig, task: str, concepts: Sequence[str], count: int) -> dict[str, dict[str, torch.Tensor]]:
    """The first `count` evaluation images of `concepts` under every method of the run; only what the store has.

    Raises ValueError for a task or concept the run does not have, or a cell that was not run.
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
        row = {place: i for i, place in enumerate(kept["shown"].tolist())}
        rows = {c: [i for concept, i in artifacts.context.requested if concept == c][:count] for c in concepts}
        if missing := [c for c, places in rows.items() if not set(places) <= set(row)]:
            raise ValueError(f"of {missing[0]!r} fewer than {count} pictures are kept: show fewer with --count")
        out[cell.method] = {c: kept["images"][[row[i] for i in places]] for c, places in rows.items()}
    return out


def add_flags(p: argparse.ArgumentParser) -> None:
    """The flags of `strip`: those of a run, and what to show of it."""
    p.add_argument("--task", required=True, help="what was forgotten")
    p.add_argument("--show", nargs="+", required=True, metavar="CONCEPT", help="concepts to show, left to right")
    p.add_argument("--count", type=int, default=3, metavar="N", help="pictures of each concept (default: 3)")
    p.add_argument("--zoom", type=int, default=2, metavar="N", help="screen pixels a picture pixel (default: 2)")
    p.add_argument("--to", type=Path, required=True, metavar="FILE", help="the picture to write")
    arguments.add_run(p)


def run(args: argparse.Namespace, words: Sequence[str], console: Console) -> int:
    """Draw the strip and write it."""
    with arguments.refusing():
        images = gather(arguments.run_config(args), args.task, args.show, args.count)
        titles = {c: f"{c} (forgotten)" if c == args.task else c for c in args.show}
        strip(images, titles, args.zoom).save(args.to)
    console.print(f"written: {args.to}", highlight=False, soft_wrap=True)
    return 0
