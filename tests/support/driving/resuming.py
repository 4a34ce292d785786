"""A training on the device that is interrupted, and goes on with networks that were loaded anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bench.backbones import pipeline
from bench.core.checkpoint import Checkpoint
from bench.training.loop import unlearn
from bench.worlds import World
from support.driving.networks import difference
from support.pretended import CUDA
from support.towards import Towards, method
from support.workplace import harnesses

ROUNDING = 1e-2  # how far the weights may be apart, over the norm of the change


def check_resuming(folder: Path, world: World, file: Path, optimizer: str, before: bool) -> None:
    """A resumed training ends with the weights of an uninterrupted one.

    Args:
        folder: the pipeline.
        file: where the training saves its state.
        optimizer: the optimiser.
        before: whether the process that is interrupted has trained another method before.
    """
    # convolutions train, which have the layout channels_last on CUDA
    config = method(parameters="unet", epochs=2, batch_size=8, optimizer=optimizer).config
    begun, new = (pipeline.load(folder, CUDA, "fp32") for _ in range(2))
    make = harnesses(world, begun)
    if before:
        unlearn(make(1), Towards(dataclasses.replace(config, epochs=1)))

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise InterruptedError

    place = make(0, checkpoint=Checkpoint(file, every=0), on_step=stop)
    with pytest.raises(InterruptedError):
        unlearn(place, Towards(config))
    resumed = unlearn(harnesses(world, new)(0, checkpoint=Checkpoint(file, every=0)), Towards(config)).delta
    whole = unlearn(make(0), Towards(config)).delta
    start = {name: parameter.detach().cpu() for name, parameter in begun.unet.named_parameters()}
    assert all(tensor.is_contiguous() for tensor in resumed.values())
    apart = difference(whole, resumed, start)
    assert apart <= ROUNDING, f"the resumed weights are apart by {apart:.1%} of their change"
    convolution = begun.unet.conv_in.weight  # later cells would round otherwise
    assert convolution.is_contiguous(memory_format=torch.channels_last)
