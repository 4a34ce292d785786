"""Every method and every switch of a method on the pretended CUDA device: the weights and pictures are the CPU's.

The methods come from their registry and the switches from their configurations. CI drives each switch at the class
that declares it, and each method at least once. The tests marked `huge` drive each switch of each method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import pretended
from support.driving.networks import (
    Pair,
    check_finetuning,
    check_low_precision,
    check_method,
    check_pictures,
    check_probes,
    check_waits_of_drawing,
    check_waits_of_training,
    driven_methods,
    loaded,
)
from support.driving.settings import Settings, UncoveredSwitch, combinations, values

from bench.core.config import SCHEDULERS, SPACINGS, Protocol
from bench.training.finetuning import RATES
from bench.training.method import MethodConfig, require_known
from bench.worlds import World
from methods import METHODS

pytestmark = pytest.mark.slow
TRAINED = [name for name in driven_methods() if METHODS.get(name).learns() and METHODS.get(name).fidelity != "control"]


def declarer(config: type, field: str) -> type:
    """The class that declares a field of a configuration."""
    return next(cls for cls in reversed(config.__mro__) if field in vars(cls).get("__annotations__", {}))


def driven_settings() -> Iterator[tuple[str, Settings, bool]]:
    """Method, settings, and whether an earlier method has driven the same switches of the same class."""
    driven: set[tuple[type, str]] = set()
    for name in driven_methods():
        config, trains = METHODS.get(name).Config, METHODS.get(name).learns()
        fields = {field for field in values(config) if trains or declarer(config, field) not in MethodConfig.__mro__}
        new = {field for field in fields if (declarer(config, field), field) not in driven}
        driven |= {(declarer(config, field), field) for field in new}
        first = [*combinations(config, new.__contains__)]
        # a method without new switches is driven once, on weights that rounding hardly moves
        for settings in first or [{"parameters": "attn2"} if name in TRAINED else {}]:
            yield name, settings, False
        for settings in combinations(config, (fields - new).__contains__):
            yield name, settings, True
        yield name, {}, True


def case(name: str, settings: Settings, again: bool) -> object:
    label = " ".join([name, *(f"{field}={value}" for field, value in settings.items())])
    return pytest.param(name, settings, id=label, marks=[pytest.mark.huge] * again)


@pytest.mark.parametrize(("name", "settings"), [case(*each) for each in driven_settings()])
def test_every_switch_leaves_the_weights_and_pictures_of_the_cpu(
    pair: Pair, world: World, name: str, settings: Settings
) -> None:
    check_method(pair, world, name, settings)


def test_switches_are_those_of_the_configurations() -> None:
    found = values(METHODS.get("mimmu").Config)
    assert found["weighting"] == ("uniform", "snr", "logistic")
    assert found["max_grad_norm"][0] is None
    assert len(found["max_grad_norm"]) == 2
    assert values(METHODS.get("safree").Config)["reattention"] == (False, True)
    every = [*combinations(METHODS.get("mimmu").Config)]
    assert {settings["x_source"] for settings in every if "x_source" in settings} == {"student", "teacher"}
    assert not any(s.get("weighting") == "logistic" and "x_source" in s for s in every)  # the configuration refuses it


def test_switch_that_names_no_words_is_reported() -> None:
    @dataclasses.dataclass(frozen=True)
    class Vague(MethodConfig):
        mode: str = "a"

    @dataclasses.dataclass(frozen=True)
    class Clear(Vague):
        def __post_init__(self) -> None:
            super().__post_init__()
            require_known("mode", self.mode, ("a", "b"))

    assert values(Clear)["mode"] == ("a", "b")
    with pytest.raises(UncoveredSwitch, match=r"Vague.mode takes words and does not name them"):
        values(Vague)


@pytest.mark.parametrize(("scheduler", "spacing"), [(s, spacing) for s, each in SPACINGS.items() for spacing in each])
def test_every_solver_draws_the_pictures_of_the_cpu(pair: Pair, scheduler: str, spacing: str) -> None:
    check_pictures(pair, Protocol(2, num_inference_steps=3, scheduler=scheduler, timestep_spacing=spacing))


def test_probe_has_the_distances_of_the_cpu(pair: Pair) -> None:
    check_probes(pair)


def test_networks_are_laid_out_for_cuda(pair: Pair) -> None:
    unet, vae, text = pair.there.unet, pair.there.vae, pair.there.pipeline.text_encoder
    assert all(parameter.is_cuda for network in (unet, vae, text) for parameter in network.parameters())
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_gradient_checkpointing_leaves_the_weights_of_the_cpu(
    account: pretended.Account, pipeline_folder: Path, world: World
) -> None:
    check_method(loaded(pipeline_folder, gradient_checkpointing=True), world, TRAINED[0])


@pytest.mark.parametrize("how", RATES)
def test_training_further_leaves_the_weights_of_the_cpu(pair: Pair, world: World, how: str) -> None:
    check_finetuning(pair, world, how)


def low_precision() -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.huge] * bool(i)) for i, name in enumerate(driven_methods())]


@pytest.mark.parametrize("name", low_precision())
def test_every_method_runs_in_bfloat16(
    account: pretended.Account, pipeline_folder: Path, world: World, name: str
) -> None:
    check_low_precision(loaded(pipeline_folder, "bf16").there, world, name)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.huge] * (n != "esd-x")) for n in TRAINED])
def test_host_waits_once_in_a_step_of_training(account: pretended.Account, pair: Pair, world: World, name: str) -> None:
    check_waits_of_training(pair.there, world, account, name)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_host_does_not_wait_at_each_sampling_step(account: pretended.Account, pair: Pair, scheduler: str) -> None:
    check_waits_of_drawing(pair.there, account, scheduler)
