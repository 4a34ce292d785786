"""Compares images of the pocket world's model in float32, in bfloat16 as on CPUs, and in bfloat16 as on CUDA.

python -m benchmarks.precision

With --probe, it compares residual mutual information (`mi`) in float32 and in TF32.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch

from bench.backbones import pipeline, sampler
from bench.backbones.locate import locate
from bench.cells import probe
from bench.suites import SUITES
from bench.training.loop import unlearn
from bench.worlds import WORLDS
from benchmarks.one_step import workplace
from benchmarks.tf32 import Tf32
from methods import METHODS
from metrics import pid

CPU = torch.device("cpu")
EXACT = "float32"
Asked = tuple[str, Sequence[sampler.ImageSpec], Mapping[str, torch.Tensor]]  # name, specs with prompts, changed weights
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


def probe_rows(backbone: str | None, images: int) -> Iterator[tuple[str, str, str, str]]:
    """For three models or questions: `mi` in nats in float32, in TF32, and the standard error of the mean in float32.

    The images are those of one concept, drawn by the untouched model. The untouched model is asked about the concept's
    prompt, then about the null prompt, where the truth is 0. The last model has been edited by `uce`.
    """
    world = WORLDS.get("pocket")
    task = SUITES.get("smoke").tasks(world)[0]
    model = pipeline.load(locate(backbone or world.backbone()), CPU, "fp32")
    specs = sampler.image_specs(world.prompts("evaluate", task.forget[0]), images)
    latents = sampler.sample(model, specs, world.protocol, 1, images, as_images=False)
    silent = [dataclasses.replace(spec, prompt="") for spec in specs]
    uce = METHODS.get("uce")
    edited = unlearn(workplace(model, world, task, 1), uce(uce.Config())).delta
    asked: tuple[Asked, ...] = (
        ("untouched", specs, {}),
        ("untouched, null prompt (truth: 0)", silent, {}),
        ("after uce", specs, edited),
    )
    for name, prompts, delta in asked:
        found = []
        for mode in (nullcontext(), Tf32()):
            with model.weights(delta), mode:
                gaps = probe.gaps(model, prompts, latents, 1, world.protocol.probe_timesteps, images)
            found.append(pid.information(gaps["gaps"], gaps["logsnr"]))
        error = found[0].std() / len(specs) ** 0.5
        yield name, f"{float(found[0].mean()):.5f}", f"{float(found[1].mean()):.5f}", f"{float(error):.5f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the images, and print the table as a document has it."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    p.add_argument("--backbone", metavar="MODEL", help="as in a run (default: that of the pocket world)")
    p.add_argument("--images", type=int, default=6, metavar="N", help="images to draw (default: %(default)s)")
    p.add_argument("--probe", action="store_true", help="compare mi in float32 and TF32 in place of images")
    args = p.parse_args(argv)
    if args.probe:
        probed = ("model", "mi in float32, nats", "mi in TF32", "standard error over images")
        for line in (probed, ("---",) * len(probed), *probe_rows(args.backbone, args.images)):
            print("| " + " | ".join(line) + " |", flush=True)
        return 0
    head = ("forward passes", "latents: distance from float32", "pixels: mean difference in grey levels")
    for row in (head, ("---",) * len(head), *rows(args.backbone, args.images)):
        print("| " + " | ".join(row) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
