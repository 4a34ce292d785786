"""How long a board will take on this machine: `python -m benchmarks.hours` and the flags of the run.

Measures, with the run's own backbone, judges and settings: the seconds of an optimiser step of each method, of drawing an
image, and of judging one. Then multiplies. It writes nothing and leaves the store alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bench import options, plugins
from bench.forget_set import LatentSet
from bench.harness import Harness
from bench.plan import Cell, Plan, resolve
from bench.sampler import decode, sample, shots
from bench.stages import Stages
from bench.unlearning import unlearn
from bench.worlds import WorldUnavailable
from methods import CONTROLS
from methods.base import MethodConfig

STEPS = 3  # optimiser steps that are timed, after one that is not


@dataclass(frozen=True)
class Rates:
    """Seconds of one thing each, on this machine.

    Args:
        preparing: method -> of what it does once before training, for a forget set of the run's size.
        step: method -> of an optimiser step.
        drawing: of an image, by the run's sampler.
        judging: of an image: decoding it, and all that looks at it.
    """

    preparing: dict[str, float]
    step: dict[str, float]
    drawing: float
    judging: float


def measure(stages: Stages) -> Rates:
    """Time a little of everything that the run does much of."""
    plan, first = stages.plan, {}
    for cell in plan.cells:
        if cell.method not in CONTROLS:
            first.setdefault(cell.method, cell)
    timed = {name: training(stages, cell) for name, cell in first.items()}
    batch, protocol = plan.sample_batch, plan.protocol
    wanted = shots(plan.world.prompts("evaluate", plan.concepts[0]), batch)
    few = dataclasses.replace(protocol, num_inference_steps=2)
    seconds = _seconds(stages, lambda: sample(stages.backbone, wanted, few, 1, batch, as_images=False))
    drawing = seconds / few.num_inference_steps * protocol.num_inference_steps / batch
    latents = torch.randn(batch, *stages.backbone.latent_shape)
    prompts = [shot.prompt for shot in wanted]

    def judge() -> None:
        stages.panel.look([decode(stages.backbone, latents.to(stages.device))], prompts)

    judging = _seconds(stages, judge) / batch
    return Rates({n: t[0] for n, t in timed.items()}, {n: t[1] for n, t in timed.items()}, drawing, judging)


def training(stages: Stages, cell: Cell) -> tuple[float, float]:
    """Seconds that a method takes before its training, and for a step of it, on random latents."""
    plan, config = stages.plan, cell.config
    accumulated = config.batch_size * config.grad_accumulation
    count = (STEPS + 1) * accumulated
    prompts = {concept: plan.world.prompts("forget", concept) for concept in cell.task.concepts}

    def examples(concepts: Sequence[str]) -> LatentSet:
        names = tuple(concepts[i % len(concepts)] for i in range(count))
        return LatentSet(torch.randn(count, *stages.backbone.latent_shape), names, (0,) * count)

    ends: list[float] = []

    def note(step: int, steps: int, loss: float) -> None:
        if stages.device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    kept = cell.task.in_domain + cell.task.out_of_domain
    rest = {concept: plan.world.rest(concept) for concept in cell.task.forget}
    place = Harness(
        stages.backbone, cell.task, examples(cell.task.forget), lambda: examples(kept), prompts, 0, note, rest
    )
    method = plan.methods[cell.method](dataclasses.replace(config, epochs=None, steps=STEPS + 1))
    began = time.perf_counter()
    unlearn(place, method)
    step = (ends[-1] - ends[0]) / STEPS
    before = max(0.0, ends[0] - began - step)  # a pass over the examples, where there is one, and warming up
    return before * plan.protocol.forget_images * len(cell.task.forget) / count, step


def steps_of(config: MethodConfig, images: int) -> int:
    """Optimiser steps of a training on so many images."""
    batches = math.ceil(images / config.batch_size)
    return config.steps or (config.epochs or 0) * math.ceil(batches / config.grad_accumulation)


def hours(plan: Plan, stages: Stages, rates: Rates) -> dict[str, tuple[float, float, float]]:
    """Method -> hours that one of its cells trains, draws and judges."""
    images, out = len(stages.shots), {}
    for cell in plan.cells:
        forget = plan.protocol.forget_images * len(cell.task.forget)
        trains = 0.0
        if cell.method in rates.step:
            trains = rates.preparing[cell.method] + rates.step[cell.method] * steps_of(cell.config, forget)
        out.setdefault(cell.method, tuple(s / 3600 for s in (trains, rates.drawing * images, rates.judging * images)))
    return out  # type: ignore[return-value]


def report(plan: Plan, stages: Stages, rates: Rates) -> Table:
    """The rates, and hours per cell and in all."""
    each = hours(plan, stages, rates)
    cells = {name: sum(cell.method == name for cell in plan.cells) for name in each}
    total = sum(sum(each[name]) * count for name, count in cells.items() if name not in CONTROLS)
    total += sum(sum(each[name][1:]) for name in cells if name in CONTROLS)  # one set of weights for all tasks
    protocol = plan.protocol
    learnt = {concept for cell in plan.cells for concept in cell.task.forget}
    once = rates.drawing * protocol.forget_images * len(learnt) / 3600
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", caption=(
        f"{stages.machine['device']}, {stages.machine['dtype'].removeprefix('torch.')}; backbone {plan.folder.name}; an "
        f"image takes {rates.drawing:.3g} s to draw ({protocol.scheduler}, {protocol.num_inference_steps} steps) and "
        f"{rates.judging:.3g} s to decode and judge; {len(stages.shots)} images a cell\n"
        f"images to forget with, once: {once:.3g} h; all {len(plan.cells)} cells: {total + once:.3g} h with one worker"
    ))  # fmt: skip
    for name in ("method", "s/step", "steps", "h training", "h drawing", "h judging", "h/cell", "cells"):
        table.add_column(name, justify="left" if name == "method" else "right")
    configs = {cell.method: (cell.config, protocol.forget_images * len(cell.task.forget)) for cell in plan.cells}
    for name, parts in each.items():
        step = f"{rates.step[name]:.3g}" if name in rates.step else ""
        steps = str(steps_of(*configs[name])) if step else ""
        table.add_row(name, step, steps, *(f"{h:.3g}" for h in (*parts, sum(parts))), str(cells[name]))
    return table


def _seconds(stages: Stages, work: Callable[[], object]) -> float:
    """Of the second of two times, done to its end."""
    for _ in range(2):
        began = time.perf_counter()
        work()
        if stages.device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m benchmarks.hours`: 0, or 2 with a message."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.hours", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_run(p)
    args = p.parse_args(argv)
    try:
        plugins.load(args.plugin)
        plan = resolve(options.run_config(args))
        stages = Stages(plan)
        rates = measure(stages)
    except (ValueError, FileNotFoundError, WorldUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(report(plan, stages, rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
