"""The same method, sampler and probe on the CPU and on the pretended device, and how far their results may differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from bench.backbones import pipeline, sampler
from bench.backbones.pipeline import Backbone
from bench.cells import probe
from bench.core.config import Protocol
from bench.core.task import Finetune
from bench.training import attachment
from bench.training.finetuning import further
from bench.training.harness import Harness
from bench.training.loop import UnlearningResult, unlearn
from bench.worlds import World
from methods import METHODS, Method
from methods.base import Given
from support.pretended import CPU, Account
from support.workplace import harnesses, small

# How far a training on the device may be from that of the CPU: the norm of the difference over the norm of the change.
# Adam divides a gradient by its own size, so that rounding decides the sign of a step where the gradient is nearly 0.
MOVED = 2e-2
# Layers that shift a whole channel. The group norms of the tiny U-Net have one channel a group and take the shift out
# again, so that the gradient of these layers is 0 but for rounding.
SHIFTS = (".bias", ".time_emb_proj.weight")
LATENTS = 2e-3  # largest difference of sampled latents, over their standard deviation
GREY_LEVELS = 1  # largest difference of pictures, in 0..255
WAITS_A_STEP = 1  # for the loss
BRIEF = {"epochs": None, "steps": 2, "batch_size": 2}
FEW = Protocol(num_inference_steps=3, precision="fp32")


class Pair(NamedTuple):
    """The same networks on both devices."""

    here: Backbone
    there: Backbone


def loaded(folder: Path, precision: str = "fp32", gradient_checkpointing: bool = False) -> Pair:
    """The pipeline in `folder` on both devices, with the attention of CUDA on both. A block of `cuda` must be open."""
    made = [
        pipeline.load(folder, torch.device(name), precision, gradient_checkpointing=gradient_checkpointing)
        for name in ("cpu", "cuda")
    ]
    made[0].unet.set_attn_processor(AttnProcessor2_0())
    return Pair(*made)


def driven_methods() -> tuple[str, ...]:
    """Every registered method; those whose weights come from a file are driven by whole runs."""
    return tuple(name for name in METHODS.names() if not issubclass(METHODS.get(name), Given))


def check_method(pair: Pair, world: World, name: str, settings: Mapping[str, object] | None = None) -> None:
    """Both devices train to the same weights, and draw the same pictures while the method acts, if it does."""
    method = small(name, **(BRIEF | dict(settings or {}) if METHODS.get(name).learns() else settings or {}))
    layout = [parameter.stride() for parameter in pair.there.unet.parameters()]
    results = [unlearn(_workplace(model, world, method), method) for model in pair]
    check_results(pair, *results)
    after = [parameter.stride() for parameter in pair.there.unet.parameters()]
    assert after == layout, "the method left weights in another layout, with which later cells would round otherwise"
    if method.attaches():
        pairs = zip(pair, results, strict=True)
        check_latents(*(_drawn(model, method, world.concepts[:1], result) for model, result in pairs))


def check_low_precision(backbone: Backbone, world: World, name: str) -> None:
    """A method runs in the backbone's precision, bfloat16, on the device, and what it predicts is float32."""
    method = small(name, **(BRIEF if METHODS.get(name).learns() else {}))
    place = _workplace(backbone, world, method)
    noise, timesteps = torch.zeros(1, *backbone.latent_shape, device="cuda"), torch.tensor([5], device="cuda")
    for predict in (place.student, place.teacher):
        dtype = predict(noise, timesteps, place.null_embeds(1)).dtype
        assert dtype == torch.float32, f"the prediction is {dtype}"
    result = unlearn(place, method)
    assert all(tensor.dtype == torch.float32 for tensor in result.delta.values())
    latents = _drawn(backbone, method, world.concepts[:1], result)
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()


def _workplace(model: Backbone, world: World, method: Method) -> Harness:
    """A harness for the method. If its teacher is the one of the previous request, there was such a request."""
    changed = {}
    if method.config.teacher == "previous":
        named = [(name, weight) for name, weight in model.unet.named_parameters() if method.trains(name)]
        changed = {name: weight.detach().cpu() * 0.9 for name, weight in named[:4]}
    return harnesses(world, model)(0, start=changed, teacher=method.config.teacher)


def check_finetuning(pair: Pair, world: World, how: str) -> None:
    """Both devices train a changed model further to the same weights; `how` as in `bench.core.task.Finetune`."""
    protocol = dataclasses.replace(FEW, finetune_steps=2, finetune_batch=2, finetune_lr=1e-3, lora_lr=1e-2)
    name, weight = next((n, p) for n, p in pair.here.unet.named_parameters() if n.endswith("attn2.to_k.weight"))
    begun = {name: weight.detach() * 0.9}
    results = [
        further(harnesses(world, model)(0, start=begun), Finetune("retained", how), protocol, 0)[0]  # type: ignore[arg-type]
        for model in pair
    ]
    assert all(tensor.device == CPU for tensor in results[1].values())
    _check_weights(pair, *results)


def check_results(pair: Pair, here: UnlearningResult, there: UnlearningResult) -> None:
    """What a method left on both devices differs by rounding, and is stored alike."""
    assert all(tensor.device == CPU for tensor in (*there.delta.values(), *there.attached.values()))
    assert here.attached.keys() == there.attached.keys()
    counts = ("steps", "student_forwards", "teacher_forwards", "delta_bytes")
    assert [here.cost[name] for name in counts] == [there.cost[name] for name in counts]
    assert here.data_use == there.data_use
    _check_weights(pair, here.delta, there.delta)
    for name, tensor in here.attached.items():
        assert torch.allclose(tensor, there.attached[name], rtol=1e-3, atol=1e-4), name


def _check_weights(pair: Pair, here: Mapping[str, torch.Tensor], there: Mapping[str, torch.Tensor]) -> None:
    start = {name: parameter.detach() for name, parameter in pair.here.unet.named_parameters()}
    assert here.keys() == there.keys()
    for name, tensor in there.items():
        assert tensor.is_contiguous(), f"{name} is not contiguous"
    steered = [name for name in here if not name.endswith(SHIFTS)]
    apart = difference({name: here[name] for name in steered}, there, start)
    assert apart <= MOVED, f"the weights are apart by {apart:.1%} of their change"


def difference(
    here: Mapping[str, torch.Tensor], there: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]
) -> float:
    """The norm of the difference of two results over the norm of the change that the first one made; 0 for {}."""
    apart = sum(float((there[name] - here[name]).double().square().sum()) for name in here)
    change = sum(float((here[name] - start[name]).double().square().sum()) for name in here)
    return (apart / change) ** 0.5 if change else float(apart > 0)


def check_latents(here: torch.Tensor, there: torch.Tensor) -> None:
    """Sampled latents of both devices differ by rounding."""
    assert there.device == CPU
    assert there.dtype == torch.float32
    apart = float((here - there).abs().max() / here.std())
    assert apart <= LATENTS, f"the latents are apart by {apart:.2g} of their standard deviation"


def check_pictures(pair: Pair, protocol: Protocol = FEW) -> None:
    """Both devices draw the same latents and the same pictures."""
    wanted = sampler.image_specs(["a dog", "a tulip"], 3)
    latents = [sampler.sample(model, wanted, protocol, 1, 2, as_images=False) for model in pair]
    check_latents(*latents)
    prompts = [spec.prompt for spec in wanted]
    pictures = [sampler.decode(model, latents[0].to(model.device), prompts) for model in pair]
    assert pictures[1].device == CPU
    apart = int((pictures[0].int() - pictures[1].int()).abs().max())
    assert apart <= GREY_LEVELS, f"the pictures are apart by {apart} grey levels"


def check_probes(pair: Pair) -> None:
    """Both devices measure the same distances between the predictions for two prompts."""
    specs = sampler.image_specs(["a dog", "a tulip"], 2)
    latents = sampler.initial_latents(pair.here.latent_shape, 7, specs)
    here, there = (probe.gaps(model, specs, latents, 1, 3, 2)["gaps"] for model in pair)
    assert there.device == CPU
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-3)


def check_waits_of_training(backbone: Backbone, world: World, account: Account, name: str) -> None:
    """The host waits for the device at most once in each step of a training, however long a sampling path is."""

    def waits(**settings: object) -> int:
        seen: list[int] = []
        place = harnesses(world, backbone)(0)
        place.on_step = lambda step, steps, loss: seen.append(account.waits.total())
        account.clear()
        unlearn(place, small(name, **BRIEF, **settings))
        return seen[-1] - seen[-2]

    paths = "path_steps" in METHODS.get(name).Config.__dataclass_fields__
    counts = [waits(path_steps=n) for n in (2, 8)] if paths else [waits()]
    found = f"waits by the number of steps {counts}: {account.waits.most_common(10)}"
    assert max(counts) <= WAITS_A_STEP, found
    assert len({*counts}) == 1, found


def check_waits_of_drawing(backbone: Backbone, account: Account, scheduler: str) -> None:
    """The host waits for the device as often for many sampling steps as for few."""
    wanted, counts = sampler.image_specs(["a dog"], 2), []
    for steps in (2, 2, 5):  # the first time encodes the prompt
        protocol = dataclasses.replace(FEW, num_inference_steps=steps, scheduler=scheduler)
        account.clear()
        sampler.sample(backbone, wanted, protocol, 1, 2, as_images=False)
        counts.append(account.waits.total())
    assert counts[1] == counts[2], f"waits by the number of steps {counts[1:]}: {account.waits.most_common(10)}"


def _drawn(model: Backbone, method: Method, concepts: tuple[str, ...], result: UnlearningResult) -> torch.Tensor:
    wanted = sampler.image_specs([f"a {concepts[0]}", "a tulip"], 2)
    with model.weights(result.delta), attachment.entered(method, model, concepts, result.attached):
        return sampler.sample(model, wanted, FEW, 1, 2, as_images=False)
