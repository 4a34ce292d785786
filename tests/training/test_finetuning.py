"""Training an unlearned model further: on what it is given, in full or through adapters."""

import dataclasses

import pytest
import torch
from support.towards import Make

from bench.backbones.pipeline import Backbone
from bench.core.config import Protocol
from bench.core.task import Finetune
from bench.training.finetuning import further, settings

PROTOCOL = Protocol(finetune_steps=3, finetune_batch=4, finetune_lr=1e-3, lora_lr=1e-2, lora_rank=2)


def loss_of(make: Make) -> float:
    """Of denoising the examples, on fixed noise."""
    place = make()
    batch = next(place.forget_batches(8))
    torch.manual_seed(3)
    t = torch.full((8,), 400)
    noise = torch.randn(batch.latents.shape)
    with torch.no_grad():
        predicted = place.student(place.noise_scheduler.add_noise(batch.latents, noise, t), t, batch.prompt_embeds)
    return float((predicted - noise).square().mean())


@pytest.mark.parametrize("how", ["full", "lora"])
def test_finetuning_lowers_the_denoising_loss_of_its_images(make: Make, model: Backbone, how: str) -> None:
    long = dataclasses.replace(PROTOCOL, finetune_steps=20)
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    tensors, cost = further(make(), Finetune("retained", how), long, seed=0)  # type: ignore[arg-type]
    assert cost["steps"] == 20
    assert all(torch.equal(before[name], tensor) for name, tensor in model.unet.state_dict().items())
    plain = loss_of(make)
    with model.weights(tensors):
        assert loss_of(make) < plain
    names = set(tensors)
    assert names <= set(before)
    attention = {n for n in before if n.endswith("weight") and any(f".{p}." in n for p in ("to_q", "to_k", "to_v"))}
    assert attention <= names
    assert (names <= attention | {n for n in before if ".to_out.0.weight" in n}) == (how == "lora")


@pytest.mark.parametrize("how", ["full", "lora"])
def test_finetuning_starts_from_the_unlearned_weights(make: Make, model: Backbone, how: str) -> None:
    start = {n: t + 0.1 for n, t in model.unet.state_dict().items() if n in ("conv_out.weight", "conv_in.weight")}
    still = dataclasses.replace(PROTOCOL, finetune_lr=0.0, lora_lr=0.0)
    tensors, _ = further(make(start=start), Finetune("retained", how), still, seed=0)  # type: ignore[arg-type]
    for name, tensor in start.items():
        assert torch.equal(tensors[name], tensor)
    others = {name: t for name, t in tensors.items() if name not in start}
    assert all(torch.allclose(t, model.unet.state_dict()[name], atol=1e-6) for name, t in others.items())


def test_finetuning_settings_are_those_of_full_or_lora_training() -> None:
    full, lora = (settings(PROTOCOL, Finetune("retained", how)) for how in ("full", "lora"))  # type: ignore[arg-type]
    assert full["finetune_lr"] == 1e-3
    assert "lora_rank" not in full
    assert (lora["lora_lr"], lora["lora_rank"]) == (1e-2, 2)
    assert "finetune_lr" not in lora
