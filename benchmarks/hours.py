"""Estimates how long a board takes on this machine: `python -m benchmarks.hours`, followed by the flags of the run.

It counts the calls of the U-Net that each method needs, and the images of each call. It times calls with one image and
with many, a few training steps, the drawing of an image and its judging, with the backbone, judges and settings of the
run. Then it multiplies. With --at nothing is timed: --at and --floor say how fast the machine is. The estimate leaves
out --curve, images of retained concepts for training, probes for mutual information, and metrics. Nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest import mock

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bench.backbones.sampler import decode, image_specs, sample
from bench.cells.artifacts import Artifacts, Context
from bench.commands import arguments
from bench.core import guidance
from bench.core.task import Task
from bench.plan.plan import Cell, Plan, resolve
from bench.training.loop import unlearn
from bench.worlds import WorldUnavailable
from benchmarks.one_step import workplace
from benchmarks.timing import clock, seconds_of
from methods import CONTROLS, REFERENCES

STEPS = 4  # optimiser steps that are timed, after a training that is not
COUNTED = 400  # steps whose calls are counted: sampling paths differ in length
# Assumed and not measured: the CPU needs 20 to 28 ms to give a GPU the kernels of a call of Stable Diffusion's U-Net,
# one after the other.
FLOOR = 24.0  # milliseconds


@dataclass(frozen=True)
class Speed:
    """How fast a machine computes the U-Net.

    Args:
        passes: forward passes of one image a second, in calls with many images. More than 0.
        floor: the least seconds of a forward or a backward call, which few images do not shorten. On a GPU this is the
            time that the CPU needs to launch the kernels of the call. At least 0.
    """

    passes: float
    floor: float = 0.0

    def seconds(self, images: int, gradient: bool = False) -> float:
        """Seconds of a forward call with `images` images, and with `gradient` of its backward call.

        A backward call computes as much as two forward passes of each image.
        """
        forward = max(self.floor, images / self.passes)
        return forward + (max(self.floor, 2 * images / self.passes) if gradient else 0.0)


@dataclass(frozen=True)
class Rates:
    """Seconds of each kind of work, on this machine or on a machine of a given speed.

    Args:
        speed: how fast the machine computes the U-Net.
        preparing: method -> seconds that it needs once before training, for the images of one concept.
        step: method -> seconds of an optimiser step.
        drawing: seconds to draw an image with the run's sampler.
        judging: seconds to decode an image and to judge it; None if unknown.
    """

    speed: Speed
    preparing: dict[str, float]
    step: dict[str, float]
    drawing: float
    judging: float | None


def measure(artifacts: Artifacts) -> Rates:
    """Time a sample of each kind of work of the run."""
    _ = artifacts.context.judges  # judges that can't be had are said at once
    plan, speed = artifacts.plan, speed_of(artifacts)
    counted = count(artifacts, speed)
    pace = {cell.method: pace_of(artifacts, cell, speed) for cell in first_cells(plan)}
    batch, protocol = plan.sample_batch, plan.protocol
    wanted = image_specs(plan.world.prompts("evaluate", plan.concepts[0]), batch)
    few = dataclasses.replace(protocol, num_inference_steps=2)
    seconds = _seconds(lambda: sample(artifacts.context.backbone, wanted, few, 1, batch, as_images=False))
    drawing = seconds / few.num_inference_steps * protocol.num_inference_steps / batch
    latents = torch.randn(batch, *artifacts.context.backbone.latent_shape)
    prompts = [spec.prompt for spec in wanted]

    def judge() -> None:
        images = decode(artifacts.context.backbone, latents.to(artifacts.context.device), prompts)
        artifacts.context.judges.judge([images], prompts)

    judging = _seconds(judge) / batch
    preparing, step = ({n: made[n] * pace[n] for n in pace} for made in (counted.preparing, counted.step))
    return Rates(speed, preparing, step, drawing, judging)


@torch.no_grad()
def speed_of(artifacts: Artifacts) -> Speed:
    """The speed of this machine, from calls with one image and with those of a sampling batch."""
    plan, backbone = artifacts.plan, artifacts.context.backbone

    def call(images: int) -> float:
        latents = torch.randn(images, *backbone.latent_shape).to(backbone.device)
        embeds = backbone.embed([plan.world.prompts("evaluate", plan.concepts[0])[0]] * images)

        unet, t = backbone.frozen(backbone.unet), torch.tensor(500, device=backbone.device)
        return _seconds(lambda: unet(latents, t, embeds))

    many = guidance.passes(plan.protocol.guidance_scale) * plan.sample_batch
    return Speed(many / call(many), call(1))


def pace_of(artifacts: Artifacts, cell: Cell, speed: Speed) -> float:
    """Seconds of training by a method over the seconds that `speed` gives the calls of the same training.

    The training's seconds include the optimiser and everything else. Several steps are timed, because steps with
    sampling paths differ in length.
    """
    seen = [0.0]

    def note(module: object, given: tuple[torch.Tensor, ...], out: object) -> None:
        seen.append(seen[-1] + speed.seconds(len(given[0]), torch.is_grad_enabled()))

    training(artifacts, cell, 1)  # what happens once is not what is asked
    handle = artifacts.context.backbone.unet.register_forward_hook(note)
    try:
        _, counted = training(artifacts, cell, STEPS, now=lambda: seen[-1])
        _, seconds = training(artifacts, cell, STEPS)  # the same seed, and so the same paths
    finally:
        handle.remove()
    return seconds / counted


def count(artifacts: Artifacts, speed: Speed) -> Rates:
    """Rates of a machine of the given speed that does nothing but compute the U-Net.

    Calls are counted: methods run as usual, on a network that computes nothing.
    """
    plan, protocol, seen, unet = artifacts.plan, artifacts.plan.protocol, [0.0], artifacts.context.backbone.unet

    def idle(latents: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor]:
        seen.append(seen[-1] + speed.seconds(len(latents), torch.is_grad_enabled()))
        trained = next((p for p in unet.parameters() if p.requires_grad), torch.zeros(()))
        return (latents + 0 * trained.sum(),)

    preparing, step = {}, {}
    with mock.patch.object(unet, "forward", idle):
        for cell in first_cells(plan):
            preparing[cell.method], step[cell.method] = training(artifacts, cell, COUNTED, now=lambda: seen[-1])
    batch = plan.sample_batch
    call = speed.seconds(guidance.passes(protocol.guidance_scale) * batch)
    return Rates(speed, preparing, step, call * protocol.num_inference_steps / batch, None)


def first_cells(plan: Plan) -> list[Cell]:
    """One cell of each method that may train."""
    found: dict[str, Cell] = {}
    for cell in plan.cells:
        if cell.method not in REFERENCES and plan.learns(cell):
            found.setdefault(cell.method, dataclasses.replace(cell, task=unlearns(cell.task)))
    return [*found.values()]


def training(artifacts: Artifacts, cell: Cell, steps: int, now: Callable[[], float] = clock) -> tuple[float, float]:
    """Seconds by the clock `now` that a method needs before training and for a step, on random latents."""
    plan, config = artifacts.plan, cell.config
    accumulated = config.batch_size * config.grad_accumulation
    count = (steps + 1) * accumulated
    ends: list[float] = []

    def note(step: int, of: int, loss: float) -> None:
        if step in (1, of):  # waiting for the device after each step would slow the steps between
            ends.append(now())

    place = workplace(artifacts.context.backbone, plan.world, cell.task, count, note)
    method = plan.methods[cell.method](dataclasses.replace(config, epochs=None, steps=steps + 1))
    began = now()
    unlearn(place, method)
    step = (ends[-1] - ends[0]) / steps
    before = max(0.0, ends[0] - began - step)  # a pass over the examples, where there is one, and warming up
    return before * plan.protocol.forget_images / count, step


def hours(plan: Plan, artifacts: Artifacts, rates: Rates) -> dict[str, tuple[float, float, float]]:
    """Method -> mean hours of its cells for training, drawing and judging.

    If a model is trained further, its unlearning counts for the first of its cells.
    """
    images, trained, made = len(artifacts.context.specs), dict[str, list[float]](), set[tuple[str, Task, int]]()
    for cell in plan.cells:
        after = cell.task.after if cell.task.finetune else None
        seconds = further(plan, rates) if after else unlearning(plan, rates, cell)
        if after and (cell.method, after, cell.seed) not in made:
            made.add((cell.method, after, cell.seed))
            seconds += unlearning(plan, rates, dataclasses.replace(cell, task=after))
        trained.setdefault(cell.method, []).append(seconds)
    judged = (rates.judging or 0.0) * images
    means = {method: sum(each) / len(each) for method, each in trained.items()}
    drawn = {method: rates.drawing * images * _passes(plan, method) for method in means}
    return {name: (mean / 3600, drawn[name] / 3600, judged / 3600) for name, mean in means.items()}


def _passes(plan: Plan, method: str) -> float:
    """Forward passes for one image of a method's model, in passes for one image of the untouched model."""
    config = next(cell.config for cell in plan.cells if cell.method == method)
    scale = plan.protocol.guidance_scale
    return plan.methods[method](config).passes(scale) / guidance.passes(scale)


def unlearns(task: Task) -> Task:
    """The task whose concepts are unlearned: the task itself, or the task whose model is trained further."""
    return task.after if task.finetune and task.after else task


def unlearning(plan: Plan, rates: Rates, cell: Cell) -> float:
    """Seconds that a cell's method needs to unlearn its task."""
    if cell.method not in rates.step:
        return 0.0
    return rates.preparing[cell.method] * len(cell.task.request) + rates.step[cell.method] * plan.steps(cell)


def further(plan: Plan, rates: Rates) -> float:
    """Seconds to train an unlearned model further. A step is one forward and one backward call."""
    protocol = plan.protocol
    return rates.speed.seconds(protocol.finetune_batch, gradient=True) * protocol.finetune_steps


def report(plan: Plan, artifacts: Artifacts, rates: Rates, where: str) -> Table:
    """The text with the rates, the hours per cell and the total. `where` names the machine."""
    each = hours(plan, artifacts, rates)
    cells = {name: sum(cell.method == name for cell in plan.cells) for name in each}
    shared = [name for name in cells if name in CONTROLS and not any(task.finetune for task in plan.tasks)]
    total = sum(sum(each[name]) * count for name, count in cells.items() if name not in shared)
    total += sum(sum(each[name][1:]) for name in shared)  # one set of weights for all tasks
    protocol = plan.protocol
    learnt = {concept for cell in plan.cells for concept in cell.task.forget}
    once = rates.drawing * protocol.forget_images * len(learnt) / 3600
    judged = "decoding and judging not counted" if rates.judging is None else f"{rates.judging:.3g} s to judge"
    said = (
        f"{where}; an image takes {rates.drawing:.3g} s to draw ({protocol.scheduler}, {protocol.num_inference_steps} "
        f"steps), {judged}; {len(artifacts.context.specs)} images a cell\n"
        f"images to forget with, once: {once:.3g} h; all {len(plan.cells)} cells: {total + once:.3g} h with one worker"
    )
    table = Table(box=box.SIMPLE_HEAD, caption=said, caption_justify="left")
    for name in ("method", "s/step", "steps", "h training", "h drawing", "h judging", "h/cell", "cells"):
        table.add_column(name, justify="left" if name == "method" else "right")
    lengths: dict[str, dict[int, None]] = {}  # of their trainings to forget: several where tasks differ in how much
    for c in plan.cells:
        lengths.setdefault(c.method, {})[plan.steps(dataclasses.replace(c, task=unlearns(c.task)))] = None
    for name, parts in each.items():
        step = f"{rates.step[name]:.3g}" if name in rates.step else ""
        steps = ", ".join(map(str, lengths[name])) if step else ""
        table.add_row(name, step, steps, *(f"{h:.3g}" for h in (*parts, sum(parts))), str(cells[name]))
    return table


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of the second of two calls."""
    work()
    return seconds_of(work)


def parser() -> argparse.ArgumentParser:
    """The parser: the flags of a run, --at and --floor."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.hours", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_run(p)
    p.add_argument(
        "--at", type=float, metavar="N", help="count, at N passes of one image through the U-Net a second, in batches"
    )
    p.add_argument(
        "--floor", type=float, metavar="MS",
        help="with --at: milliseconds that a call of the U-Net takes at least, however few its images; backward calls "
        f"too (default: {FLOOR:g}, assumed for Stable Diffusion on a GPU)",
    )  # fmt: skip
    return p


def speed_given(args: argparse.Namespace) -> Speed | None:
    """The speed that the flags give; None to measure it. Raises ValueError for flags that make no speed."""
    floor = FLOOR if args.floor is None else args.floor
    if args.at is None:
        if args.floor is not None:
            raise ValueError(f"--floor {floor:g} needs --at: without --at the speed of this machine is measured")
        return None
    if not args.at > 0:
        raise ValueError(f"--at must be more than 0 passes a second, not {args.at:g}")
    if not floor >= 0:
        raise ValueError(f"--floor must be at least 0 milliseconds, not {floor:g}")
    return Speed(args.at, floor / 1000)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `python -m benchmarks.hours`. Returns 0, or 2 after an error message."""
    args = arguments.parse(parser(), sys.argv[1:] if argv is None else argv)
    try:
        speed = speed_given(args)
        plan = resolve(arguments.run_config(args))
        artifacts = Artifacts(Context(plan))
        rates = count(artifacts, speed) if speed else measure(artifacts)
    except (ValueError, FileNotFoundError, WorldUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine = f"{artifacts.context.machine['device']}, {artifacts.context.machine['dtype'].removeprefix('torch.')}"
    where = "" if speed else f"{machine}, backbone {plan.folder.name}: "
    where += f"{rates.speed.passes:.3g} passes of one image a second, at least {1000 * rates.speed.floor:.3g} ms a call"
    console.print(report(plan, artifacts, rates, where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
