"""8-bit optimisers on a device where weights are channels_last, and kernels get memory without strides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import pretended
from support.pretended import CUDA
from support.towards import method
from support.workplace import harnesses

from bench.backbones import pipeline
from bench.core.checkpoint import Checkpoint
from bench.training.loop import UnlearningResult, unlearn
from bench.worlds import World

pytestmark = pytest.mark.slow


@pytest.fixture
def device() -> Iterator[torch.device]:
    pytest.importorskip("bitsandbytes", reason="the extra .[8bit] is not installed")
    with pretended.cuda():
        yield CUDA


def test_half_a_training_goes_on_in_a_new_process(
    device: torch.device, pipeline_folder: Path, world: World, tmp_path: Path
) -> None:
    """In the old process it is the second cell: the first one must not have changed the layout of the weights."""

    def train(model: pipeline.Backbone, steps: int, stop: int = 0, kept: bool = False) -> UnlearningResult:
        def at(step: int, steps: int, loss: float) -> None:
            if step == stop:
                raise InterruptedError

        harness = harnesses(world, model)(0)
        harness.on_step, harness.checkpoint = at, Checkpoint(tmp_path / "half", every=0) if kept else None
        return unlearn(harness, method(epochs=steps, batch_size=8, parameters="unet", optimizer="adam8bit"))

    old, new = (pipeline.load(pipeline_folder, device, "fp32") for _ in range(2))
    start = {name: p.detach().cpu() for name, p in old.unet.named_parameters()}
    train(old, steps=1)
    assert old.unet.conv_out.weight.stride() == new.unet.conv_out.weight.stride()
    with pytest.raises(InterruptedError):
        train(old, steps=3, stop=2, kept=True)  # its checkpoint is of the first step
    resumed, whole = train(new, steps=2, kept=True).delta, train(old, steps=2).delta
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert (resumed[name] - tensor).norm() <= 1e-2 * (tensor - start[name]).norm(), name
