"""Evaluates a method in Lethe's way, and in the way of most published scripts, with the same networks.

Such a script trains, saves the weights, draws one prompt at a time with the pipeline of diffusers, writes each image as
PNG, and judges the files one by one in another pass.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bench.backbones.sampler import make_scheduler, seed_of
from bench.cells.artifacts import Context
from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.plan.plan import Cell, resolve
from bench.suites import SUITES
from bench.worlds.base import classify
from benchmarks import bare
from benchmarks.rows import Setting
from benchmarks.timing import Line, Seconds, by_turns, clock, ratios, seconds_of

METHOD = "mimmu"


@dataclasses.dataclass(frozen=True)
class Took:
    """Seconds of one evaluation: to forget, and to draw and judge."""

    forgetting: float
    judging: float


class Script:
    """Evaluation as a script: train, save, draw prompt by prompt to PNG files, read the files, judge each.

    Args:
        context: its backbone, judges, specs and protocol are used.
        cell: the method's config and task.
        steps: training steps.
        folder: where the weights and the images go.
    """

    def __init__(self, context: Context, cell: Cell, steps: int, folder: Path) -> None:
        self.context, self.steps, self.folder = context, steps, folder
        trains = context.plan.methods[cell.method](cell.config).trains
        self.trainer = bare.Trainer(context.backbone, trains, cell.config.lr, cell.config.batch_size)
        self.trained = [name for name, _ in context.backbone.unet.named_parameters() if trains(name)]

    def __call__(self) -> Took:
        """Evaluate once."""
        began = clock()
        for _ in range(self.steps):
            self.trainer.step()
        state = self.trainer.student.state_dict()
        save_file({name: state[name].contiguous() for name in self.trained}, self.folder / "weights.safetensors")
        trained = clock()
        with self.context.backbone.weights(load_file(self.folder / "weights.safetensors")):
            self.draw()
        self.judge()
        return Took(trained - began, clock() - trained)

    def draw(self) -> None:
        """Draw each image with a call of its own, and write it as PNG."""
        backbone, protocol = self.context.backbone, self.context.plan.protocol
        pipeline, kept = backbone.pipeline, backbone.pipeline.scheduler
        pipeline.scheduler = make_scheduler(backbone, protocol)
        try:
            for i, spec in enumerate(self.context.specs):
                generator = torch.Generator().manual_seed(seed_of(protocol.evaluation_seed, spec.prompt, spec.index))
                with backbone.autocast():
                    drawn = pipeline(
                        spec.prompt, num_inference_steps=protocol.num_inference_steps,
                        guidance_scale=protocol.guidance_scale, generator=generator,
                    )  # fmt: skip
                drawn.images[0].save(self.folder / f"{i}.png")
        finally:
            pipeline.scheduler = kept

    @torch.inference_mode()
    def judge(self) -> float:
        """The share of images in which the judge of their concept recognises the concept. Each file is read alone."""
        world, judges = self.context.plan.world, self.context.judges.judges
        recognised = 0
        for concept, index in self.context.requested:
            judge = judges[world.judge_of(concept)]
            with Image.open(self.folder / f"{index}.png") as file:
                pixels = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)
            logits, _ = classify(judge, pixels[None].to(self.context.device))
            recognised += judge.labels[int(logits.argmax())] == concept
        return recognised / len(self.context.requested)


def evaluating(setting: Setting) -> list[Line]:
    """A cell of mimmu (forget, draw, judge), against a script that draws prompt by prompt, to PNG files."""
    rounds = max(1, setting.rounds // 2)
    each = setting.images // len(SUITES.get("smoke").tasks(setting.world)[0].concepts)
    overrides = {
        METHOD: {"epochs": "none", "steps": str(setting.steps)},
        "protocol": {"images_per_concept": str(max(1, each)), "precision": setting.precision},
    }
    with ExitStack() as stack:
        out, folder = (Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lethe-"))) for _ in range(2))
        run = RunConfig(
            (METHOD,), "smoke", setting.world.name, seeds=tuple(range(rounds + 1)), metrics=("ua", "nra"), out=out,
            overrides=overrides,
        )  # fmt: skip
        executor = Executor(resolve(run))
        cells = [cell for cell in executor.plan.cells if cell.method == METHOD]
        script = Script(executor.context, cells[0], setting.steps, folder)
        mine, theirs = _both(executor, iter(cells), script, rounds)
    count, steps = len(executor.context.specs), setting.steps

    def line(what: str, of_script: Seconds, of_lethe: Seconds) -> Line:
        note = f"script {sum(of_script) / rounds:.2f} s, Lethe {sum(of_lethe) / rounds:.2f} s"
        return Line("evaluating", what, ratios(of_script, of_lethe), note=note)

    whole = (tuple(t.forgetting + t.judging for t in side) for side in (theirs, mine))
    later = (tuple(t.judging for t in side) for side in (theirs, mine))
    return [
        line(f"forget ({steps} steps), draw {count} images and judge: script / Lethe", *whole),
        line("of it, draw and judge: script / Lethe", *later),
    ]


def _both(
    executor: Executor, cells: Iterator[Cell], script: Script, rounds: int
) -> tuple[tuple[Took, ...], tuple[Took, ...]]:
    """What Lethe and the script took in each round, by turns, after one evaluation of each."""
    taken: tuple[list[Took], list[Took]] = ([], [])

    def lethe() -> float:
        cell, result = next(cells), []
        seconds = seconds_of(lambda: result.append(executor.run(cell)))
        if not result[0].ok:
            raise RuntimeError(result[0].reason)
        forgetting = float(result[0].cost["seconds"])
        taken[0].append(Took(forgetting, seconds - forgetting))
        return seconds

    def other() -> float:
        taken[1].append(script())
        return taken[1][-1].forgetting + taken[1][-1].judging

    by_turns(lethe, other, rounds)
    mine, theirs = (tuple(itertools.islice(side, 1, None)) for side in taken)  # without the first, the warm-up
    return mine, theirs
