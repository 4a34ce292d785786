"""What every registered method must do, the examples of docs/add-a-method.md included.

`pytest tests/methods/test_contract.py --plugin FILE` tests the methods of FILE as well.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import guide
from support.workplace import small

from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import image_specs, sample
from bench.commands import export
from bench.core.config import Protocol
from bench.plan import plugins
from bench.training.guard.watch import Watch, watched
from bench.training.harness import Harness
from bench.training.loop import UnlearningResult, unlearn
from methods import METHODS, Method

EXAMPLES = ("neighbour", "subtract")


@pytest.fixture(params=dict.fromkeys((*METHODS.names(), *EXAMPLES)))
def name(request: pytest.FixtureRequest, plugged: None) -> Iterator[str]:
    """Each method's name; those of the guide stand for their plugins unless one of the same name was given."""
    if request.param not in METHODS:
        plugins.load([guide.plugin("add-a-method.md", f"{request.param}.py")])
    return request.param


def test_method_describes_itself(name: str) -> None:
    cls = METHODS.get(name)
    assert issubclass(cls, Method)
    assert cls.__doc__
    assert cls.about
    assert cls.source
    assert cls.fidelity in ("published", "reconstruction", "control")


def test_method_config_is_frozen_and_refuses_unknown_settings(name: str) -> None:
    cls = METHODS.get(name)
    config = cls.Config()
    assert cls(config).config is config
    with pytest.raises(TypeError):
        cls.Config(no_such_setting=1)  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="takes a"):
        cls({"lr": 1.0})  # type: ignore[arg-type]


def test_method_changes_only_declared_weights_and_repeats_with_the_seed(
    name: str, harness: Callable[[int], Harness], model: Backbone, pipeline_folder: Path, tmp_path: Path
) -> None:
    before = {key: tensor.clone() for key, tensor in model.unet.state_dict().items()}

    def run(seed: int) -> UnlearningResult:
        return unlearn(harness(seed), small(name))

    first, again, other = run(3), run(3), run(4)
    assert first.delta.keys() == again.delta.keys()
    assert all(torch.equal(first.delta[key], again.delta[key]) for key in first.delta)
    if first.cost["steps"]:  # it trains, so the order of the images and the noise are random
        assert any(not torch.equal(first.delta[key], other.delta[key]) for key in first.delta)
    assert all(small(name).trains(key) for key in first.delta)
    assert bool(first.delta) == (name != "pretrained" and METHODS.get(name).learns())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.unet.state_dict().items())

    export.write(pipeline_folder, first.delta, {}, tmp_path / "made")
    made = StableDiffusionPipeline.from_pretrained(tmp_path / "made", safety_checker=None)
    after = made.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(first.delta.get(key, before[key]), tensor) for key, tensor in after.items())


def test_method_that_acts_while_sampling_changes_pictures_and_leaves_nothing_behind(name: str, model: Backbone) -> None:
    method, concepts = small(name), ("golden retriever", "blue jay")
    protocol, specs = Protocol(num_inference_steps=4, guidance_scale=3.0), image_specs(("a photo of a blue jay",), 2)

    def drawn() -> torch.Tensor:
        return sample(model, specs, protocol, seed=1, batch_size=2, as_images=False)

    before = drawn()
    with watched(Watch(f"method {name!r}", model), pytest.fail, pytest.fail):  # raises LeftBehind
        with method.attach(model, concepts, {}):
            acting = drawn()
        if method.attaches() and not method.learns():
            with method.attach(model, concepts, {}):
                assert torch.equal(drawn(), acting)
    if not method.learns():
        assert not torch.equal(acting, before)
    if not method.attaches():
        assert torch.equal(acting, before)
        assert method.learns()
    assert torch.equal(drawn(), before)
    json.dumps(method.export(concepts))
