import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.towards import Make, Towards, method

from bench.backbones import pipeline
from bench.backbones.pipeline import Backbone
from bench.core import device
from bench.core.checkpoint import Checkpoint
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import unlearn
from methods.base import MethodConfig


def test_teacher_predicts_like_a_copy_of_the_original(make: Make, model: Backbone) -> None:
    original = copy.deepcopy(model.unet)
    latents, timesteps = torch.randn(2, *model.latent_shape), torch.tensor([10, 900])
    seen = []

    class Check(Towards):
        def after_step(self, harness: Harness) -> None:
            embeds = harness.null_embeds(2)
            expected = original(latents, timesteps, encoder_hidden_states=embeds).sample
            seen.append((harness.teacher(latents, timesteps, embeds), expected))
            assert not torch.allclose(harness.student(latents, timesteps, embeds), expected, atol=1e-4)

    harness = make()
    unlearn(harness, Check(MethodConfig(lr=1e-2, epochs=1, batch_size=4)))
    assert len(seen) == 2
    for swapped, copied in seen:
        assert torch.equal(swapped, copied)


def test_teacher_gives_the_same_training_as_a_copied_network(make: Make, model: Backbone) -> None:
    original = copy.deepcopy(model.unet)

    class Copied(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            timesteps = torch.full((len(batch),), 500)
            with torch.no_grad():
                target = original(
                    batch.latents, timesteps, encoder_hidden_states=harness.null_embeds(len(batch))
                ).sample
            return F.mse_loss(harness.student(batch.latents, timesteps, batch.prompt_embeds), target)

    swapped, copied = unlearn(make(), method()).delta, unlearn(make(), Copied(method().config)).delta
    assert swapped.keys() == copied.keys()
    assert all(torch.equal(swapped[name], copied[name]) for name in swapped)


def test_teacher_stores_only_the_parameters_that_train(make: Make, model: Backbone) -> None:
    harness = make()
    unlearn(harness, method())
    assert set(harness.teacher_weights) == {n for n, _ in model.unet.named_parameters() if ".attn2." in n}
    assert (
        0
        < sum(t.numel() for t in harness.teacher_weights.values())
        < sum(p.numel() for p in model.unet.parameters()) / 2
    )


def test_the_teachers_weights_are_parameters_like_the_students(make: Make, model: Backbone) -> None:
    """Compiled code is made for Parameters: for plain tensors it would be compiled once more."""
    seen = dict[str, bool]()

    class Look(Towards):
        def after_step(self, harness: Harness) -> None:
            for network in ("teacher", "average"):
                hook = model.unet.register_forward_pre_hook(lambda unet, given: look(network, unet))  # noqa: B023
                harness.network(network)(torch.randn(1, 4, 16, 16), torch.tensor([300]), harness.null_embeds(1))
                hook.remove()

    def look(network: str, unet: torch.nn.Module) -> None:
        swapped = [p for module in unet.modules() for p in module._parameters.values() if p is not None]
        seen[network] = all(type(p) is torch.nn.Parameter and not p.requires_grad for p in swapped)

    unlearn(make(), Look(method(epochs=1, ema_decay=0.5, batch_size=8).config))
    assert seen == {"teacher": True, "average": True}


def test_average_predicts_during_training_and_is_the_result(make: Make) -> None:
    latents, timesteps, seen = torch.randn(1, 4, 16, 16), torch.tensor([300]), []

    class Look(Towards):
        def after_step(self, harness: Harness) -> None:
            embeds = harness.null_embeds(1)
            seen.append(harness.average(latents, timesteps, embeds))
            assert not torch.equal(seen[-1], harness.student(latents, timesteps, embeds).detach())

        def finish(self, harness: Harness) -> None:
            seen.append(harness.student(latents, timesteps, harness.null_embeds(1)).detach())

    unlearn(make(), Look(method(epochs=2, batch_size=8, ema_decay=0.5).config))
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[1], seen[2], atol=1e-6)  # the result is the average


def test_changed_tensors_are_contiguous_in_every_memory_layout(make: Make, model: Backbone) -> None:
    plain = unlearn(make(), method(parameters="unet")).delta
    model.unet.to(memory_format=torch.channels_last)  # as on CUDA
    turned = unlearn(make(), method(parameters="unet")).delta
    assert list(turned) == list(plain)
    assert all(tensor.is_contiguous() for tensor in turned.values())
    assert all(turned[name].shape == plain[name].shape for name in plain)
    assert any(p.dim() == 4 and not p.is_contiguous() for p in model.unet.parameters())
    latents, timesteps, null = torch.randn(1, *model.latent_shape), torch.tensor([400]), model.embed([""])
    with torch.no_grad():
        before = model.unet(latents, timesteps, encoder_hidden_states=null).sample
        with model.weights(turned):
            changed = model.unet(latents, timesteps, encoder_hidden_states=null).sample
        after = model.unet(latents, timesteps, encoder_hidden_states=null).sample
    assert torch.equal(before, after)
    assert not torch.allclose(before, changed, atol=1e-4)


def test_tf32_is_allowed_only_in_mixed_precision() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        for dtype, allowed in ((torch.bfloat16, True), (torch.float32, False)):
            device.allow_tf32(dtype)
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (allowed, allowed)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_cuda_training_resumes_after_an_interruption(
    make: Make, pipeline_folder: Path, tmp_path: Path, optimizer: str
) -> None:
    cuda = pipeline.load(pipeline_folder, torch.device("cuda"))
    assert cuda.dtype == torch.bfloat16
    config = method(parameters="unet", epochs=3, optimizer=optimizer, ema_decay=0.9).config

    def stops(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise RuntimeError("on purpose")

    whole = unlearn(make(backbone=cuda), Towards(config))
    assert whole.cost["peak_bytes"] > 0
    assert all(t.is_contiguous() and t.device.type == "cpu" and t.dtype == torch.float32 for t in whole.delta.values())
    with pytest.raises(RuntimeError, match="on purpose"):
        unlearn(make(backbone=cuda, on_step=stops, checkpoint=Checkpoint(tmp_path / "c", every=0)), Towards(config))
    resumed = unlearn(make(backbone=cuda, checkpoint=Checkpoint(tmp_path / "c")), Towards(config))
    assert resumed.cost["steps"] == whole.cost["steps"] == 6
    for name, tensor in whole.delta.items():  # atomic additions of some kernels round in no fixed order
        assert torch.allclose(resumed.delta[name], tensor, atol=1e-3), name


def test_student_starts_from_given_weights_with_either_teacher(make: Make, model: Backbone) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    outside = "conv_in.weight"  # the method trains none of it
    before = {n: t.clone() for n, t in model.unet.state_dict().items()}
    start = {name: before[name] + 0.5, outside: before[outside] + 0.5}
    latents, timesteps = torch.randn(2, *model.latent_shape), torch.tensor([10, 900])
    untouched = copy.deepcopy(model.unet)
    elsewhere = copy.deepcopy(model.unet)
    elsewhere.load_state_dict(start, strict=False)

    def teach(teacher: str) -> torch.Tensor:
        harness = make(start=start, teacher=teacher)
        with harness.trainable(lambda n: ".attn2." in n):
            assert torch.equal(harness.trained[name], start[name])
            assert set(harness.changed_tensors()) == {name, outside}
            embeds = harness.null_embeds(2)
            student = harness.student(latents, timesteps, embeds)
            assert torch.equal(student, elsewhere(latents, timesteps, encoder_hidden_states=embeds).sample)
            return harness.teacher(latents, timesteps, embeds)

    embeds = make().null_embeds(2)
    with torch.no_grad():
        assert torch.equal(teach("original"), untouched(latents, timesteps, encoder_hidden_states=embeds).sample)
        assert torch.equal(teach("previous"), elsewhere(latents, timesteps, encoder_hidden_states=embeds).sample)
    assert all(torch.equal(before[n], t) for n, t in model.unet.state_dict().items())
    with pytest.raises(ValueError, match="unknown teacher 'ema'; known: original, previous"):
        make(teacher="ema")
    with (
        pytest.raises(ValueError, match=r"no tensor 'nowhere' of this shape to start from"),
        make(start={"nowhere": torch.zeros(1)}).trainable(lambda n: True),
    ):
        pass


def test_original_weights_return_after_running_out_of_memory(
    make: Make, model: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {n: t.clone() for n, t in model.unet.state_dict().items()}
    harness = make(start={"conv_in.weight": before["conv_in.weight"] + 0.5}, teacher="previous")
    clone, left = torch.Tensor.clone, [1 + sum(".attn2." in n for n in before)]

    def short(self: torch.Tensor, **given: object) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("no more")
        return clone(self, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.Tensor, "clone", short)
    with pytest.raises(MemoryError), harness.trainable(lambda n: ".attn2." in n):
        pass
    monkeypatch.undo()
    assert all(torch.equal(before[n], t) for n, t in model.unet.state_dict().items())


def test_adapters_are_merged_into_the_changed_tensors(make: Make, model: Backbone) -> None:
    before = {n: t.clone() for n, t in model.unet.state_dict().items()}
    latents, timesteps, seen = torch.randn(1, *model.latent_shape), torch.tensor([300]), []
    harness = make(start={"conv_in.weight": before["conv_in.weight"] * 1.1})
    with harness.trainable_adapters(2, seed=0):
        assert all("lora" in name for name in harness.trained)
        with torch.no_grad():
            for parameter in harness.trained.values():
                parameter.add_(0.1)
            seen.append(harness.student(latents, timesteps, harness.null_embeds(1)))
        delta = harness.changed_tensors()
    assert "conv_in.weight" in delta
    assert set(delta) <= set(before)
    assert all(torch.equal(before[n], t) for n, t in model.unet.state_dict().items())
    with model.weights(delta), torch.no_grad():
        plain = model.unet(latents, timesteps, encoder_hidden_states=model.embed([""])).sample
    assert torch.allclose(plain, seen[0], atol=1e-5)
