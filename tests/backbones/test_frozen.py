"""Passes without a gradient, with weights of bfloat16 as on CUDA."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.towards import Make
from support.workplace import midway, small

from bench.backbones import pipeline
from bench.backbones.frozen import Frozen
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import image_specs, sample
from bench.core import device as devices
from bench.core.config import Protocol
from bench.training.loop import unlearn

CPU = torch.device("cpu")


@pytest.fixture
def low(model: Backbone) -> Backbone:
    """The tiny pipeline as on CUDA in bfloat16."""
    model.dtype, model.casts_weights = torch.bfloat16, True
    return model


def plainly(network: torch.nn.Module, z: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """The prediction of a copy of `network` in bfloat16."""
    cast = copy.deepcopy(network).bfloat16()
    with torch.no_grad():
        noise: torch.Tensor = cast(z.bfloat16(), t, encoder_hidden_states=embeds.bfloat16()).sample
    return noise.float()


@pytest.mark.parametrize(
    ("device", "dtype", "casts"),
    [("cuda", torch.bfloat16, True), ("cuda", torch.float32, False), ("cpu", torch.bfloat16, False)],
)
def test_only_cuda_below_float32_casts_weights(device: str, dtype: torch.dtype, casts: bool) -> None:
    assert devices.casts_weights(torch.device(device), dtype) is casts


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_network_of_a_training_computes_like_a_copy_in_bfloat16(
    low: Backbone, make: Make, checkpointing: bool
) -> None:
    if checkpointing:
        low.unet.enable_gradient_checkpointing()
    harness = make()
    z, t, embeds = torch.randn(2, *low.latent_shape), torch.tensor([10, 900]), low.embed(["a cat", ""])
    with midway(harness, small("sdd")) as copies, torch.no_grad():
        for _ in range(2):
            for name in ("student", "teacher", "average"):
                predicted = harness.network(name)(z, t, embeds)
                assert torch.equal(predicted, plainly(getattr(copies, name), z, t, embeds)), name
                with torch.enable_grad():
                    assert harness.student(z, t, embeds).requires_grad
            # what trains has moved: the second time, both must have followed
            for name, parameter in harness.trained.items():
                parameter.mul_(1.5)
                harness.average_weights[name].mul_(0.5)
            for network in (copies.student, copies.average):
                for name, parameter in network.named_parameters():
                    if name in harness.trained:
                        parameter.mul_(1.5 if network is copies.student else 0.5)


def test_the_networks_own_weights_stay_as_they_were(low: Backbone) -> None:
    own = dict(low.unet.named_parameters())
    before = {name: p.detach().clone() for name, p in own.items()}
    frozen = low.frozen(low.unet)
    with frozen.running():
        assert {p.dtype for p in low.unet.parameters()} == {torch.bfloat16}
    assert all(p is own[name] and torch.equal(p, before[name]) for name, p in low.unet.named_parameters())
    with pytest.raises(RuntimeError), frozen.running():
        low.unet(torch.zeros(1), 0, encoder_hidden_states=torch.zeros(1))
    assert all(p is own[name] for name, p in low.unet.named_parameters())


def test_weights_that_do_not_train_are_cast_once(low: Backbone) -> None:
    kept: dict[str, torch.nn.Parameter] = {}
    moving = {n: p for n, p in low.unet.named_parameters() if ".attn2." in n}
    frozen = [Frozen(low.unet, CPU, torch.bfloat16, True, moving, kept) for _ in range(2)]
    assert kept.keys() == {n for n, _ in low.unet.named_parameters()} - moving.keys()
    for one in frozen:
        with one.running():
            assert all(p is kept[n] for n, p in low.unet.named_parameters() if n in kept)


def test_images_differ_from_those_of_float32_by_rounding(pipeline_folder: Path, low: Backbone) -> None:
    protocol, specs = Protocol(num_inference_steps=2), image_specs(("a photo of a cat",), 3)
    exact = sample(pipeline.load(pipeline_folder, CPU, "fp32"), specs, protocol, 1, 3).int()
    rounded = sample(low, specs, protocol, 1, 3).int()
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().float().mean() < 2  # grey levels


@pytest.mark.parametrize("name", ["esd-x", "salun"])
def test_methods_train_with_weights_of_bfloat16(low: Backbone, make: Make, name: str) -> None:
    before = {n: p.detach().clone() for n, p in low.unet.named_parameters()}
    delta = unlearn(make(siblings={make().task.forget[0]: make().task.in_domain}), small(name)).delta
    assert delta
    assert all(tensor.dtype == torch.float32 for tensor in delta.values())
    assert all(torch.equal(p, before[n]) for n, p in low.unet.named_parameters())
