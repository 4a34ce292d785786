"""Stable Diffusion at its full size with random weights: every method takes a step, and a picture comes out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import torch

from bench.backbones import sampler
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec
from bench.core import device
from bench.core.config import Protocol
from bench.training.loop import unlearn
from benchmarks import architectures, one_step
from benchmarks.architectures import ARCHITECTURES
from benchmarks.one_step import Load

SMALL = Load(size=64, batch=2)  # the networks are as they are, the pictures are not
WHOLE = ("salun", "esd-u")  # train most of the U-Net
PICTURE = "a picture"
REST = {*one_step.stepping_methods()}  # a picture will do where minutes count
LIGHT = [name for name in one_step.stepping_methods() if name not in WHOLE]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_have_as_many_weights_as_the_published_ones(name: str) -> None:
    made = dict(zip(("unet", "vae", "text_encoder"), architectures.networks(ARCHITECTURES[name]), strict=True))
    assert {n: sum(p.numel() for p in m.parameters()) for n, m in made.items()} == ARCHITECTURES[name].parameters
    unet = made["unet"]  # the teacher's weights are swapped in without looking for others that are tied to them
    assert len([*unet.named_parameters(remove_duplicate=False)]) == len([*unet.parameters()])


def test_the_tokenizer_is_clips() -> None:
    words = architectures.tokenizer()
    assert len(words) == architectures.VOCABULARY
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert words("a cat", padding="max_length").input_ids[4:] == [49407] * 73
    assert architectures.tokenizer("!")("a cat", padding="max_length").input_ids[4:] == [0] * 73  # as 2.x pads


@pytest.fixture(scope="module")
def model() -> Iterator[Callable[[str], Backbone]]:
    """name -> the architecture's one instance, made anew after another one's."""
    held: dict[str, Backbone] = {}

    def get(name: str) -> Backbone:
        if name not in held:
            held.clear()
            gc.collect()
            architecture = ARCHITECTURES[name]
            pipeline = architectures.pipeline(architecture, architectures.filled(architectures.networks(architecture)))
            cpu = torch.device("cpu")
            held[name] = Backbone(pipeline, cpu, device.compute_dtype(cpu))
            one_step.fit_to(held[name], SMALL)
        return held[name]

    yield get
    held.clear()
    gc.collect()


def takes_a_step(model: Backbone, name: str) -> None:
    method = one_step.method(name, SMALL)
    outcome = unlearn(one_step.harness(model, method.config.batch_size), method)
    assert outcome.cost["steps"] == 1
    trained = {n for n, _ in model.unet.named_parameters() if method.trains(n)}
    assert outcome.delta
    assert set(outcome.delta) <= trained
    assert not any(p.requires_grad for p in model.unet.parameters())


def draws_a_picture(model: Backbone) -> None:
    protocol = Protocol(num_inference_steps=2)
    pictures = sampler.sample(model, [ImageSpec("a photo of a tulip", 0)], protocol, 1, 1)
    assert pictures.shape == (1, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    assert pictures.float().std() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        pytest.param(a, name, marks=pytest.mark.huge if name in REST else ())
        for a in ARCHITECTURES
        for name in (*LIGHT, PICTURE, *WHOLE)
    ],
)
def test_every_method_takes_a_step_and_a_picture_comes_out(
    model: Callable[[str], Backbone], architecture: str, name: str
) -> None:
    made = model(architecture)
    if name == PICTURE:
        draws_a_picture(made)
        return
    if name in WHOLE:  # weights, originals, gradients, two moments and what changed would be 21 GB in fp32
        made.unet.to(torch.bfloat16)  # for good: nothing else comes after these
        made.dtype = torch.bfloat16
    takes_a_step(made, name)
