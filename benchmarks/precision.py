"""Compares images of the pocket world's model in float32, in bfloat16 as on CPUs, and in bfloat16 as on CUDA.

python -m benchmarks.precision
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import torch

from bench.backbones import pipeline, sampler
from bench.backbones.locate import locate
from bench.worlds import WORLDS

CPU = torch.device("cpu")
EXACT = "float32"
WAYS = {  # name -> precision, and whether passes without a gradient have weights of that precision
    EXACT: ("fp32", False),
    "bfloat16, autocast (CPUs)": ("bf16", False),
    "bfloat16, weights (CUDA)": ("bf16", True),
}


def rows(backbone: str | None, images: int) -> Iterator[tuple[str, str, str]]:
    """For each of WAYS its name, and two distances from the images of float32, all computed on the CPU.

    The first distance is that of the final latents, relative to their norm, and the second that of the pixels: the
    mean difference in grey levels of 255, if each way decodes its own latents.
    """
    world = WORLDS.get("pocket")
    prompts = [world.prompts("evaluate", concept)[0] for concept in world.concepts[:images]]
    specs = sampler.image_specs(prompts, images)
    exact: tuple[torch.Tensor, torch.Tensor] | None = None
    for name, (precision, casts) in WAYS.items():
        model = pipeline.load(locate(backbone or world.backbone()), CPU, precision)
        model.casts_weights = casts
        latents = sampler.sample(model, specs, world.protocol, 1, images, as_images=False)
        pixels = sampler.decode(model, latents, prompts).float()
        exact = exact or (latents, pixels)
        far = (latents - exact[0]).norm() / exact[0].norm()
        yield name, f"{float(far):.5f}", f"{float((pixels - exact[1]).abs().mean()):.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images, and print the table as a document has it."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    p.add_argument("--backbone", metavar="MODEL", help="as in a run (default: that of the pocket world)")
    p.add_argument("--images", type=int, default=6, metavar="N", help="images to draw (default: %(default)s)")
    args = p.parse_args(argv)
    head = ("forward passes", "latents: distance from float32", "pixels: mean difference in grey levels")
    for row in (head, ("---",) * len(head), *rows(args.backbone, args.images)):
        print("| " + " | ".join(row) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
