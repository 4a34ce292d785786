import dataclasses

import pytest
import torch

from bench.backbones.finite import NonFiniteImage
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, image_specs, initial_latents, make_scheduler, sample
from bench.core.config import Protocol

PROMPTS = ("a photo of a red rose", "one photo of a blue jay", "a nice photo of the poodle")
BASE = Protocol(num_inference_steps=5, guidance_scale=3.0)


@pytest.fixture
def wanted() -> tuple[ImageSpec, ...]:
    return image_specs(PROMPTS, 7)


def test_image_specs_are_spread_over_prompts_without_repeating_noise(wanted: tuple[ImageSpec, ...]) -> None:
    assert [(spec.prompt, spec.index) for spec in wanted[:4]] == [
        (PROMPTS[0], 0), (PROMPTS[1], 0), (PROMPTS[2], 0), (PROMPTS[0], 1)
    ]  # fmt: skip
    assert len(set(wanted)) == 7
    assert image_specs(PROMPTS, 3) == wanted[:3]


@pytest.mark.parametrize("name", ["dpmsolver++", "ddim"])
@pytest.mark.parametrize("guidance_scale", [3.0, 1.0])
def test_images_are_those_of_the_stock_pipeline(model: Backbone, name: str, guidance_scale: float) -> None:
    protocol = dataclasses.replace(BASE, scheduler=name, guidance_scale=guidance_scale)
    batch = [ImageSpec(prompt, 0) for prompt in PROMPTS]
    ours = sample(model, batch, protocol, seed=1, batch_size=3)
    model.pipeline.scheduler = make_scheduler(model, protocol)
    theirs = model.pipeline(
        prompt=list(PROMPTS), latents=initial_latents(model.latent_shape, 1, batch), output_type="np",
        num_inference_steps=protocol.num_inference_steps, guidance_scale=guidance_scale,
    ).images  # fmt: skip
    expected = torch.from_numpy((theirs * 255).round()).permute(0, 3, 1, 2)
    assert ours.shape == (3, 3, 64, 64)
    assert ours.dtype == torch.uint8
    assert ours.float().std() > 1  # there is something in the picture to compare
    assert (ours.float() - expected).abs().max() <= 1


def test_an_image_does_not_depend_on_its_batch(model: Backbone, wanted: tuple[ImageSpec, ...]) -> None:
    together = sample(model, wanted, BASE, seed=1, batch_size=7).int()
    in_twos = sample(model, wanted, BASE, seed=1, batch_size=2).int()
    backwards = sample(model, wanted[::-1], BASE, seed=1, batch_size=3).int().flip(0)
    assert (together - in_twos).abs().max() <= 1
    assert (together - backwards).abs().max() <= 1
    assert (together[0] - together[3]).abs().max() > 1  # same prompt, other noise


def test_noise_follows_from_seed_prompt_and_index_alone() -> None:
    shape = (4, 16, 16)
    base = initial_latents(shape, 1, [ImageSpec("a", 0)])
    assert torch.equal(base, initial_latents(shape, 1, [ImageSpec("b", 5), ImageSpec("a", 0)])[1:])
    for seed, spec in ((2, ImageSpec("a", 0)), (1, ImageSpec("b", 0)), (1, ImageSpec("a", 1))):
        assert not torch.equal(base, initial_latents(shape, seed, [spec]))
    assert base.sum().item() == pytest.approx(34.264, abs=0.01)  # drawn once and written down: every board relies on it


def test_latents_are_what_the_images_are_decoded_from(model: Backbone, wanted: tuple[ImageSpec, ...]) -> None:
    latents = sample(model, wanted[:2], BASE, seed=1, batch_size=2, as_images=False)
    images = sample(model, wanted[:2], BASE, seed=1, batch_size=2)
    with torch.no_grad():
        decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    assert torch.equal(((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8), images)


def test_non_finite_latents_raise(model: Backbone, wanted: tuple[ImageSpec, ...]) -> None:
    torch.nn.init.constant_(model.unet.conv_out.bias, float("nan"))
    with pytest.raises(NonFiniteImage):
        sample(model, wanted[:1], BASE, seed=1, batch_size=1)


def test_each_prompt_is_encoded_once(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    original = model.pipeline.encode_prompt

    def spy(prompts: list[str], *args: object) -> object:
        encoded.extend(prompts)
        return original(prompts, *args)

    monkeypatch.setattr(model.pipeline, "encode_prompt", spy)
    sample(model, image_specs(PROMPTS, 6), BASE, seed=1, batch_size=2)
    assert sorted(encoded) == sorted(["", *PROMPTS])


def test_original_weights_are_restored_after_the_block(model: Backbone) -> None:
    name = "conv_out.bias"
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}

    def break_off() -> None:
        with model.weights({name: before[name] + 1}):
            assert torch.equal(model.unet.state_dict()[name], before[name] + 1)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        break_off()
    assert all(torch.equal(v, before[k]) for k, v in model.unet.state_dict().items())


def test_changed_text_encoder_encodes_prompts_again(model: Backbone) -> None:
    networks = {"": model.unet, "text_encoder.": model.pipeline.text_encoder}
    before = {prefix + n: t.clone() for prefix, net in networks.items() for n, t in net.state_dict().items()}
    told = model.embed(PROMPTS)
    name = next(n for n in before if n.startswith("text_encoder.") and n.endswith("token_embedding.weight"))
    changed = {"conv_out.bias": before["conv_out.bias"] + 1, name: before[name].flip(0)}
    with model.weights(changed):
        now = {prefix + n: t for prefix, net in networks.items() for n, t in net.state_dict().items()}
        assert {n for n, t in now.items() if not torch.equal(t, before[n])} == {*changed}
        assert not torch.isclose(model.embed(PROMPTS), told).all()
        with model.weights({"conv_out.bias": before["conv_out.bias"]}):
            assert not torch.isclose(model.embed(PROMPTS), told).all()
    now = {prefix + n: t for prefix, net in networks.items() for n, t in net.state_dict().items()}
    assert all(torch.equal(t, before[n]) for n, t in now.items())
    assert torch.equal(model.embed(PROMPTS), told)


@pytest.mark.parametrize(
    ("wrong", "owner"),
    [
        ({"conv_out.weights": torch.ones(4)}, "U-Net"),
        ({"conv_out.bias": torch.ones(5)}, "U-Net"),
        ({"text_encoder.conv_out.bias": torch.ones(4)}, "text encoder"),
    ],
)
def test_weights_of_another_model_are_refused(model: Backbone, wrong: dict[str, torch.Tensor], owner: str) -> None:
    with pytest.raises(ValueError, match=f"{owner} has no tensor"), model.weights(wrong):
        pass
