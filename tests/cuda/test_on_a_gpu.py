"""Everything that a run computes on CUDA, compared with the CPU on networks small enough to take seconds.

Two devices compute the same sums in another order, so nothing is equal to the last bit. In float32 the differences are
far below the tolerances here, and a wrong seed, weight, layout or prompt is far above them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import workplace

from bench import RunConfig, run
from bench.backbones import pipeline, sampler
from bench.backbones.pipeline import Backbone
from bench.cells import probe
from bench.cells.judges import Judges
from bench.core.checkpoint import Checkpoint
from bench.core.config import SCHEDULERS, Protocol
from bench.training.loop import unlearn
from bench.worlds import World
from benchmarks.one_step import stepping_methods
from methods import CONTROLS, METHODS

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
Pair = tuple[Backbone, Backbone]
Note = Callable[[int, int, float], None]


@pytest.fixture
def pair(pipeline_folder: Path) -> Pair:
    """The same networks on the CPU and on CUDA, in float32 without TF32."""
    on_cpu, on_cuda = (pipeline.load(pipeline_folder, device, "fp32") for device in (torch.device("cpu"), CUDA))
    return on_cpu, on_cuda


def change(model: Backbone, delta: dict[str, torch.Tensor]) -> torch.Tensor:
    """The change of all weights of the U-Net to those of `delta`."""
    before = model.unet.state_dict()
    parts = [delta[name].double() - before[name].cpu().double() for name in sorted(delta)]
    return torch.cat([part.flatten() for part in parts])


def specs(world: World, count: int = 6) -> tuple[sampler.ImageSpec, ...]:
    prompts = [prompt for concept in world.concepts[:3] for prompt in world.prompts("evaluate", concept)[:1]]
    return sampler.image_specs(prompts, count)


@pytest.mark.parametrize("name", stepping_methods())
def test_training_changes_the_weights_as_on_the_cpu(world: World, pair: Pair, name: str) -> None:
    on_cpu, on_cuda = (unlearn(workplace.harnesses(world, model)(3), workplace.small(name)).delta for model in pair)
    assert all(t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous() for t in on_cuda.values())
    assert on_cuda.keys() == on_cpu.keys() != set()
    here, there = change(pair[0], on_cpu), change(pair[0], on_cuda)
    assert float((there - here).norm() / here.norm()) < 0.2  # Adam takes a whole step where the gradient is rounding


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_images_are_those_of_the_cpu(world: World, pair: Pair, scheduler: str) -> None:
    protocol = Protocol(num_inference_steps=4, guidance_scale=3.0, scheduler=scheduler)
    here, there = (sampler.sample(model, specs(world), protocol, 1, 4) for model in pair)
    assert there.device.type == "cpu"
    assert (there.int() - here.int()).abs().max() <= 2


def test_the_probe_finds_what_it_finds_on_the_cpu(world: World, pair: Pair) -> None:
    wanted = specs(world)
    latents = torch.randn(len(wanted), *pair[0].latent_shape)
    here, there = (probe.gaps(model, wanted, latents, 1, 5, 4) for model in pair)
    assert there["gaps"].device.type == "cpu"
    assert torch.allclose(there["gaps"], here["gaps"], rtol=1e-3)


def test_judges_say_what_they_say_on_the_cpu(world: World) -> None:
    images = torch.cat([world.reference(concept, 2) for concept in world.concepts[:3]])
    prompts = [spec.prompt for spec in specs(world)]
    here, there = (
        Judges(world, world.concepts[:3], device).judge([images], prompts) for device in (torch.device("cpu"), CUDA)
    )
    assert there.keys() == here.keys()
    for name, found in there.items():
        assert found.device.type == "cpu"
        assert torch.allclose(found.double(), here[name].double(), atol=1e-3), name


def test_every_row_of_a_board_is_finished(world: World, tmp_path: Path) -> None:
    names = tuple(name for name in METHODS.names() if name not in CONTROLS and METHODS.get(name).fidelity != "given")
    small = {name: {"steps": "2", "epochs": "none"} for name in names if METHODS.get(name).learns()}
    board = run(RunConfig(names, "smoke", "tiny", overrides=small, out=tmp_path), progress=False)
    assert board.cells[["method", "status"]].values.tolist() == [[name, "ok"] for name in (*CONTROLS, *names)]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adam8bit", "adamw8bit"])
def test_second_training_of_a_process_resumes_in_another(
    world: World, pipeline_folder: Path, tmp_path: Path, optimizer: str
) -> None:
    if optimizer.endswith("8bit"):
        pytest.importorskip("bitsandbytes")
    method = workplace.small("salun", optimizer=optimizer, epochs=4)  # it trains convolutions
    seen: list[int] = []

    def stops(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise RuntimeError("on purpose")

    def stands(step: int, steps: int, loss: float) -> None:
        seen.append(step)

    def train(model: Backbone, file: str, every: float = 60, note: Note = stands) -> dict[str, torch.Tensor]:
        harness = workplace.harnesses(world, model)(3)
        harness.checkpoint = Checkpoint(tmp_path / file, every=every)
        harness.on_step = note
        return unlearn(harness, method).delta

    first = pipeline.load(pipeline_folder, CUDA, "fp32")
    train(first, "another cell")
    whole = train(first, "whole")
    with pytest.raises(RuntimeError, match="on purpose"):
        train(first, "cut", every=0, note=stops)
    second = pipeline.load(pipeline_folder, CUDA, "fp32")
    seen.clear()
    resumed = train(second, "cut")
    assert seen == [3, 4, 5, 6, 7, 8], "it began anew"
    expected = change(second, whole)
    assert float((change(second, resumed) - expected).norm() / expected.norm()) < 0.05


def test_compiled_networks_draw_the_same_images(world: World, pipeline_folder: Path) -> None:
    pytest.importorskip("triton")
    protocol = Protocol(num_inference_steps=2, guidance_scale=3.0)
    plain, compiled = (
        sampler.sample(pipeline.load(pipeline_folder, CUDA, "fp32", compile=c), specs(world), protocol, 1, 6)
        for c in (False, True)
    )
    assert (plain.int() - compiled.int()).abs().max() <= 2
