"""What saves memory changes nothing else, or says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from support import workplace
from support.towards import Make, Towards, method

from bench.backbones import folder as folders
from bench.backbones import pipeline, sampler
from bench.backbones.sampler import ImageSpec, decode, sample
from bench.cells.artifacts import Artifacts, Context
from bench.core.checkpoint import Checkpoint
from bench.core.config import Protocol, RunConfig
from bench.core.task import Finetune
from bench.plan.plan import resolve
from bench.training import optimizers
from bench.training.finetuning import further
from bench.training.harness import Harness
from bench.training.loop import TrainConfig, unlearn
from bench.worlds import World


def kept_bytes(harness: Harness) -> int:
    """Bytes that one forward pass of the student keeps for the gradient."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = next(harness.forget_batches(4))
    with harness.trainable(lambda name: ".attn2." in name), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        harness.student(batch.latents, torch.full((4,), 500), batch.prompt_embeds).sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("name", ["mimmu", "sdd"])
def test_checkpointed_activations_train_to_the_same_weights(
    world: World, pipeline_folder: Path, device: torch.device, name: str
) -> None:
    deltas = []
    for switch in (False, True):
        model = pipeline.load(pipeline_folder, device, "fp32", gradient_checkpointing=switch)
        deltas.append(unlearn(workplace.harnesses(world, model)(0), workplace.small(name)).delta)
    assert deltas[0].keys() == deltas[1].keys()
    assert len(deltas[0]) > 0
    assert all(torch.equal(deltas[0][key], deltas[1][key]) for key in deltas[0])


def test_gradient_checkpointing_needs_less_memory(world: World, pipeline_folder: Path, device: torch.device) -> None:
    plain, switched = (
        kept_bytes(workplace.harnesses(world, pipeline.load(pipeline_folder, device, "fp32", False, switch))(0))
        for switch in (False, True)
    )
    assert 0 < switched < plain / 2


def test_only_switches_that_change_rounding_change_the_keys(world: World, tmp_path: Path) -> None:
    def keys(**switches: bool) -> tuple[object, object]:
        plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path, **switches))  # type: ignore[arg-type]
        artifacts = Artifacts(Context(plan))
        return artifacts.weights.key(plan.cells[-1]), artifacts.images.key(None)

    plain = keys()
    assert keys(gradient_checkpointing=True) == plain
    compiled = keys(compile=True)
    assert compiled[0] != plain[0]
    assert compiled[1] != plain[1]
    assert keys(compile=True, gradient_checkpointing=True) != compiled


def test_the_switch_reaches_the_network(world: World, tmp_path: Path) -> None:
    run = RunConfig(world="tiny", suite="smoke", out=tmp_path, gradient_checkpointing=True)
    unet = Context(resolve(run)).backbone.unet
    assert unet.is_gradient_checkpointing


def test_large_images_have_smaller_batches(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "copy"))
    file = folder / "unet" / "config.json"
    settings, found = json.loads(file.read_text()), {}
    for side in (16, 32, 64, 128, 192):  # of latents, a quarter of the picture's
        file.write_text(json.dumps({**settings, "sample_size": side}))
        assert folders.picture_size(folder) == (4 * side, 4 * side)
        found[4 * side] = folders.usual_batch(folder)
    assert found == {64: 64, 128: 64, 256: 32, 512: 16, 768: 10}
    assert resolve(RunConfig(world="tiny")).sample_batch == 64
    assert resolve(RunConfig(world="tiny", sample_batch=3)).sample_batch == 3
    assert resolve(RunConfig(world="tiny", backbone=str(folder))).sample_batch == 10


def test_images_are_decoded_in_batches(world: World, model: pipeline.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [ImageSpec(f"a photo of {i}", i) for i in range(5)]
    latents = sample(model, specs, world.protocol, 0, 5, as_images=False)
    whole, sizes = decode(model, latents, [""] * len(latents)), []
    monkeypatch.setattr(sampler, "PIXELS", 2 * 64 * 64 + 1)
    original = model.vae.decode
    monkeypatch.setattr(model.vae, "decode", lambda z, **kw: (sizes.append(len(z)), original(z, **kw))[1])
    again = decode(model, latents, [""] * len(latents))
    assert (again.int() - whole.int()).abs().max() <= 1  # a grey level, by rounding
    assert sizes == [2, 2, 1]


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs bitsandbytes: pip install .*\[8bit\]"):
        TrainConfig(optimizer="adam8bit")
    TrainConfig(optimizer="adam")


@pytest.fixture
def eight_bit() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra .[8bit] is not installed")


def test_eight_bit_moments_are_a_quarter(eight_bit: None, device: torch.device) -> None:
    weights = torch.randn(64, 128)
    parameters = {name: torch.nn.Parameter(weights.clone()) for name in optimizers.NAMES}
    sizes = {}
    for name, parameter in parameters.items():
        optimizer = optimizers.build(name, [parameter], 1e-2, 0.0, device)
        for _ in range(5):
            parameter.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        tensors, _ = optimizers.state_of(optimizer)
        sizes[name] = sum(t.nbytes for t in tensors.values() if t.shape == weights.shape)
    assert sizes["adam8bit"] == sizes["adamw8bit"] == sizes["adam"] / 4 == 2 * weights.numel()
    moved = (parameters["adam"] - weights).abs().mean()
    assert (parameters["adam8bit"] - parameters["adam"]).abs().mean() < 0.05 * moved


def test_eight_bit_moments_survive_an_interruption(
    eight_bit: None, make: Make, tmp_path: Path, harness: Callable[[int], Harness]
) -> None:
    class Killed(BaseException):
        pass

    def stops(step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise Killed

    def trains() -> workplace.Method:
        return method(epochs=3, batch_size=8, optimizer="adam8bit", parameters="unet")

    whole = unlearn(make(), trains()).delta
    with pytest.raises(Killed):
        unlearn(make(on_step=stops, checkpoint=Checkpoint(tmp_path / "c", every=0)), trains())
    told: list[int] = []
    last = make(on_step=lambda step, steps, loss: told.append(step), checkpoint=Checkpoint(tmp_path / "c", every=1e9))
    resumed = unlearn(last, trains()).delta
    assert told[0] == 2
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def channels_last(model: pipeline.Backbone) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Lay the U-Net out as on CUDA. Returns parameter name -> its place in memory and its strides."""
    model.unet.to(memory_format=torch.channels_last)
    return layout(model)


def layout(model: pipeline.Backbone) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {name: (p.data_ptr(), p.stride()) for name, p in model.unet.named_parameters()}


@pytest.mark.parametrize("fails", [False, True], ids=["to its end", "until it fails"])
def test_weights_are_contiguous_while_an_eight_bit_optimiser_works_and_as_before_afterwards(
    eight_bit: None, make: Make, model: pipeline.Backbone, fails: bool
) -> None:
    before, values = channels_last(model), {n: p.detach().clone() for n, p in model.unet.named_parameters()}
    assert not model.unet.conv_out.weight.is_contiguous()

    def look(step: int, steps: int, loss: float) -> None:
        assert all(p.is_contiguous() and p.data_ptr() == before[n][0] for n, p in harness.trained.items())
        if fails:
            raise InterruptedError

    harness = make(on_step=look)
    with pytest.raises(InterruptedError) if fails else nullcontext():
        unlearn(harness, method(epochs=1, batch_size=8, optimizer="adam8bit", parameters="unet"))
    assert layout(model) == before
    assert all(torch.equal(p, values[n]) for n, p in model.unet.named_parameters())


@pytest.mark.parametrize("how", ["full", "lora"])
def test_training_further_leaves_the_layout_of_the_weights(make: Make, model: pipeline.Backbone, how: str) -> None:
    before = channels_last(model)
    protocol = Protocol(finetune_steps=1, finetune_batch=2, lora_rank=2)
    further(make(), Finetune("retained", how=how), protocol, seed=0)
    assert layout(model) == before


def test_weights_that_a_library_moves_return_to_their_memory(make: Make, model: pipeline.Backbone) -> None:
    before = channels_last(model)

    class Moves(Towards):
        def edit(self, harness: Harness) -> None:
            for parameter in harness.trained.values():  # as bitsandbytes does in a step
                parameter.data = parameter.data.contiguous()

    harness = make()
    unlearn(harness, Moves(method(parameters="unet").config))
    assert layout(model) == before


def test_keys_of_eight_bit_training_contain_the_library_version(eight_bit: None, world: World, tmp_path: Path) -> None:
    def key(optimizer: str) -> dict[str, object]:
        run = RunConfig(("mimmu",), "smoke", "tiny", overrides={"mimmu": {"optimizer": optimizer}}, out=tmp_path)
        plan = resolve(run)
        return Artifacts(Context(plan)).weights.key(plan.cells[-1])

    eight = key("adam8bit")
    assert "bitsandbytes" in eight
    assert "layout" not in eight  # on the CPU, weights are contiguous anyhow
    assert optimizers.key_parts("adam8bit", "H100")["layout"] == "contiguous"
    assert "bitsandbytes" not in key("adam")
