"""How often the code for CUDA waits for the device, and how many kernels a pass without a gradient has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import pretended
from support.pretended import CUDA, Account
from support.workplace import harnesses, small

from bench.backbones import pipeline
from bench.backbones.sampler import image_specs, sample
from bench.core import device as devices
from bench.core.config import Protocol
from bench.training.loop import unlearn
from bench.worlds import World
from benchmarks.one_step import stepping_methods

QUICK: list[tuple[str, dict[str, object]]] = [("mimmu", {}), ("esd-x", {"path_batch": 2})]
REST: list[tuple[str, dict[str, object]]] = [
    *((name, {}) for name in stepping_methods() if name != "mimmu"),
    ("mimmu", {"weighting": "logistic"}),
    ("mimmu", {"weighting": "snr", "objective": "sds"}),
    ("mimmu", {"x_source": "student"}),
]


@pytest.fixture
def account() -> Iterator[Account]:
    with pretended.cuda() as account:
        yield account


@pytest.mark.parametrize(
    ("name", "settings"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in REST)]
)
def test_a_step_of_training_waits_for_the_device_once(
    account: Account, pipeline_folder: Path, world: World, name: str, settings: dict[str, object]
) -> None:
    model, seen = pipeline.load(pipeline_folder, CUDA, "bf16"), list[int]()
    harness = harnesses(world, model)(0)
    prompts = {prompt for concept in world.concepts for prompt in world.prompts("forget", concept)}
    target = harness.task.forget[0]
    model.embed(["", *prompts, *(prompt.replace(target, "dog") for prompt in prompts)])  # each only once in a process
    harness.on_step = lambda step, steps, loss: seen.append(account.waits.total())
    unlearn(harness, small(name, **settings))  # two steps
    assert seen[1] - seen[0] == 1, account.waits


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_a_sampling_step_does_not_wait_for_the_device(account: Account, pipeline_folder: Path, scheduler: str) -> None:
    model, waits = pipeline.load(pipeline_folder, CUDA, "bf16"), []
    for steps in (2, 2, 5):
        account.clear()
        protocol = Protocol(scheduler=scheduler, num_inference_steps=steps)
        sample(model, image_specs(("a dog",), 2), protocol, 1, 2, as_images=False)
        waits.append(account.waits.total())
    assert waits[2] == waits[1], account.waits


def test_weights_of_bfloat16_halve_the_kernels_of_a_pass(account: Account, pipeline_folder: Path) -> None:
    launches = []
    for casts in (False, True):
        model = pipeline.load(pipeline_folder, CUDA, "bf16")
        assert model.casts_weights
        model.casts_weights = casts
        z, t = torch.zeros(1, *model.latent_shape, device=CUDA), torch.tensor([9], device=CUDA)
        unet, embeds = model.frozen(model.unet), model.embed([""])
        with torch.no_grad():
            account.clear()
            unet(z, t, embeds)
        launches.append(account.launches.total())
    assert launches[1] < 0.6 * launches[0]


def test_the_key_of_a_cuda_run_has_weights_of_bfloat16(account: Account) -> None:
    described = {precision: devices.describe(CUDA, precision)["dtype"] for precision in ("bf16", "fp32")}
    assert described == {"bf16": "torch.bfloat16 weights", "fp32": "torch.float32"}
    assert devices.describe(torch.device("cpu"), "bf16")["dtype"] == "torch.bfloat16"
