"""Fixtures that every room's tests share. Nothing here reaches the network."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["LETHE_ORACLES"] = "none"  # committed or built on this machine: boards of tests have no row for them

import hypothesis
import pytest
import torch
from support import tiny, workplace
from support.towards import Make

from bench.backbones import pipeline
from bench.core.task import Task
from bench.plan import plugins
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.worlds import WORLDS, World

hypothesis.settings.register_profile("lethe", deadline=None, derandomize=True)  # same examples on a busy machine
hypothesis.settings.load_profile("lethe")
gc.collect()
gc.freeze()  # torch and the rest stay: the collector need not visit their million objects each time
torch.set_num_threads(1)  # tiny networks gain nothing from a second one, and lose much where the machine is busy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", nargs="+", default=[], metavar="FILE", help="hold what FILE registers to the tests")
    parser.addoption("--pretended-cuda", action="store_true", help="run each test with a pretended CUDA device")


def pytest_configure(config: pytest.Config) -> None:
    try:
        plugins.load([Path(file) for file in config.getoption("--plugin")])
    except plugins.PluginError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _pretended_cuda(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--pretended-cuda`, a CUDA device for the test itself; fixtures that several tests share have none."""
    if not request.config.getoption("--pretended-cuda"):
        yield
        return
    from support import pretended  # imports more of torch than other tests need

    with pretended.cuda():
        yield


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of random weights in Stable Diffusion's format."""
    return tiny.build_pipeline(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def world(pipeline_folder: Path) -> World:
    """The tiny world, also registered as "tiny"."""
    made = tiny.Tiny(pipeline_folder)
    WORLDS.add(made.name, made)
    return made


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def model(pipeline_folder: Path, device: torch.device) -> pipeline.Backbone:
    """The tiny pipeline in fp32, loaded anew for each test."""
    return pipeline.load(pipeline_folder, device, precision="fp32")


@pytest.fixture
def make(world: World, model: pipeline.Backbone) -> Make:
    """A harness for the first concept, with 8 forget and 4 retain examples of random latents."""
    names = world.concepts[:3]
    task = Task("t", names[:1], names[1:2], names[2:])
    examples = LatentSet(torch.randn(8, *model.latent_shape), names[:1] * 8, (0, 1) * 4)
    kept = LatentSet(torch.randn(4, *model.latent_shape), names[1:] * 2, (0,) * 4)
    prompts = {name: world.prompts("forget", name) for name in names}

    def build(seed: int = 0, **changes: object) -> Harness:
        given = {"backbone": model, "task": task, "forget": examples, "retain": lambda: kept, "prompts": prompts}
        return Harness(**{**given, "seed": seed, **changes})  # type: ignore[arg-type]

    return build


@pytest.fixture
def harness(world: World, model: pipeline.Backbone) -> Callable[[int], Harness]:
    """seed -> a workplace for one small task."""
    return workplace.harnesses(world, model)


@pytest.fixture
def plugged() -> Iterator[None]:
    """What is registered within the test, by plugins or by hand, is forgotten after it."""
    with plugins.temporarily():
        yield
