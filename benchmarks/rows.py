"""Benchmarks within one process: training steps and sampled images, compared with bare networks."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from bench.backbones import pipeline as networks
from bench.backbones.locate import locate
from bench.backbones.sampler import ImageSpec, image_specs, make_scheduler, sample, seed_of
from bench.core import device
from bench.core.config import Protocol
from bench.suites import SUITES
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from benchmarks import bare
from benchmarks.timing import Line, by_turns, clock, milliseconds, ratios, seconds_of
from methods import METHODS


@dataclass(frozen=True)
class Setting:
    """The world and the amount of work of the benchmarks.

    Args:
        world: its default backbone, protocol and presets are used.
        rounds: how often each side of a ratio is timed.
        steps: training steps per round.
        images: sampled images per round.
        precision: precision of forward passes, as in the protocol.
    """

    world: World
    rounds: int = 5
    steps: int = 12
    images: int = 32
    precision: str = "auto"

    @cached_property
    def backbone(self) -> networks.Backbone:
        """The backbone, loaded once for all rows."""
        return networks.load(locate(self.world.backbone()), device.default_device(), self.precision)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol of the world."""
        return self.world.protocol


def harness_step(setting: Setting) -> list[Line]:
    """A training step of mimmu with its preset, through the harness, against a bare loop on the same networks."""
    world, backbone = setting.world, setting.backbone
    task = SUITES.get("smoke").tasks(world)[0]
    kind = METHODS.get("mimmu")
    config = dataclasses.replace(
        kind.Config(), **{**world.presets.get("mimmu", {}), "epochs": None, "steps": setting.steps + 1}
    )
    method, size = kind(config), config.batch_size
    examples = LatentSet(torch.randn(64, *backbone.latent_shape), task.forget * 64, (0,) * 64)
    prompts = {concept: world.prompts("forget", concept) for concept in task.concepts}

    def harness() -> float:
        stamps: list[float] = []

        def note(step: int, steps: int, loss: float) -> None:
            if step in (1, steps):  # waiting for the device after each step would slow the steps between
                stamps.append(clock())

        unlearn(Harness(backbone, task, examples, lambda: examples, prompts, 0, on_step=note), method)
        return (stamps[-1] - stamps[0]) / setting.steps

    plain = bare.Trainer(backbone, method.trains, config.lr, size)
    mine, theirs = by_turns(harness, lambda: plain.seconds(setting.steps), setting.rounds)
    note = f"harness {milliseconds(mine)}, bare {milliseconds(theirs)} a step of {size}"
    return [Line("step", "training step: bare loop / harness", ratios(theirs, mine), goal=0.95, note=note)]


def wanted(setting: Setting, count: int) -> tuple[ImageSpec, ...]:
    """Evaluation image specs of the world's first concepts."""
    world, each = setting.world, 4
    every = (spec for c in world.concepts for spec in image_specs(world.prompts("evaluate", c), each))
    return tuple(itertools.islice(itertools.cycle(every), count))


def sampling(setting: Setting) -> list[Line]:
    """Images from the sampler, including noise, scheduler and rounding, against the bare network passes."""
    backbone, protocol, count = setting.backbone, setting.protocol, setting.images
    specs = wanted(setting, count)
    mine, theirs = by_turns(
        lambda: seconds_of(lambda: sample(backbone, specs, protocol, 1, count)),
        lambda: seconds_of(lambda: bare.sample(backbone, count, count, protocol.num_inference_steps)),
        setting.rounds,
    )
    note = f"{count / statistics.median(mine):.1f} images a second, bare {count / statistics.median(theirs):.1f}"
    note += f"; {protocol.num_inference_steps} steps, batch {count}"
    return [Line("sampling", "sampled image: bare passes / sampler", ratios(theirs, mine), goal=0.95, note=note)]


def batching(setting: Setting) -> list[Line]:
    """Images from the sampler in batches, against diffusers' own pipeline with one prompt at a time."""
    backbone, protocol, count = setting.backbone, setting.protocol, setting.images
    alone = max(1, count // 8)
    specs = wanted(setting, count)
    stock = StableDiffusionPipeline.from_pretrained(
        locate(setting.world.backbone()), safety_checker=None, requires_safety_checker=False
    ).to(backbone.device)

    def one_by_one(pipeline: StableDiffusionPipeline) -> None:
        pipeline.scheduler = make_scheduler(backbone, protocol)
        pipeline.set_progress_bar_config(disable=True)
        for spec in specs[:alone]:
            generator = torch.Generator().manual_seed(seed_of(1, spec.prompt, spec.index))
            pipeline(
                spec.prompt, num_inference_steps=protocol.num_inference_steps,
                guidance_scale=protocol.guidance_scale, generator=generator,
            )  # fmt: skip

    def same_precision() -> None:
        kept = backbone.pipeline.scheduler
        try:
            with backbone.autocast():
                one_by_one(backbone.pipeline)
        finally:
            backbone.pipeline.scheduler = kept

    lines = []
    cases = (
        ("as it loads (fp32)", lambda: one_by_one(stock), 4.0),
        ("same attention and precision", same_precision, None),
    )
    for name, theirs, goal in cases:
        batched, single = by_turns(
            lambda: seconds_of(lambda: sample(backbone, specs, protocol, 1, count)) / count,
            lambda: seconds_of(theirs) / alone,  # noqa: B023
            max(1, setting.rounds - 2),
        )
        note = f"{milliseconds(single)} an image alone, {milliseconds(batched)} in a batch of {count}"
        what = f"image: pipeline prompt by prompt, {name} / sampler"
        lines.append(Line("batching", what, ratios(single, batched), goal=goal, note=note))
    return lines


def attention(setting: Setting) -> list[Line]:
    """A training step with the fused attention kernel, against one with plain matrix products."""
    preset = METHODS.get("mimmu").Config(**setting.world.presets.get("mimmu", {}))
    trains = METHODS.get("mimmu")(preset).trains
    fused, plain = (
        bare.Trainer(setting.backbone, trains, preset.lr, preset.batch_size, processor)
        for processor in (AttnProcessor2_0(), AttnProcessor())
    )
    a, b = by_turns(lambda: fused.seconds(setting.steps), lambda: plain.seconds(setting.steps), setting.rounds)
    note = f"fused {milliseconds(a)}, plain {milliseconds(b)} a step of {preset.batch_size}, teacher included"
    return [Line("attention", "training step: fused attention kernel / plain", ratios(a, b), note=note)]
