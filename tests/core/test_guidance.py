"""Classifier-free guidance: one rule for images that are evaluated and for paths that methods train on."""

import dataclasses
import math
import re

import pytest
import torch
from support.towards import Make

from bench.backbones import sampling_paths
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import denoise, image_specs, initial_latents, make_scheduler
from bench.core import guidance
from bench.core.config import Protocol, RunConfig
from bench.plan.plan import resolve
from methods import METHODS

SCALES = (0.0, 0.5, 1.0, 3.0)
WRONG = (-1.0, -1e-9, math.inf, -math.inf, math.nan)
PROMPTS = ("a photo of a red rose", "one photo of a blue jay")
BASE = Protocol(num_inference_steps=4, scheduler="ddim")


def refusal(setting: str, scale: float) -> str:
    """What the message says: that an infinite scale or NaN is not finite, and that a negative one is below 0."""
    bound = " of at least 0" if math.isfinite(scale) else "( of at least 0)?"
    return rf"{setting} must be a finite number{bound}, not {re.escape(str(scale))}($|:)"


def plainly(model: Backbone, scale: float, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """eps_u + s (eps_c - eps_u), each from a batch as large as the rule asks for, so that the bits agree."""
    with torch.no_grad():
        if scale in (0.0, 1.0):
            alone = model.embed([""] * len(PROMPTS) if scale == 0 else PROMPTS)
            prediction: torch.Tensor = model.unet(z, t, encoder_hidden_states=alone).sample
            return prediction
        both = model.embed([""] * len(PROMPTS) + list(PROMPTS))
        null, prompt = model.unet(torch.cat([z, z]), t, encoder_hidden_states=both).sample.chunk(2)
        result: torch.Tensor = null + scale * (prompt - null)
        return result


@pytest.mark.parametrize("scale", SCALES)
def test_evaluation_images_follow_the_formula_bit_by_bit(model: Backbone, scale: float) -> None:
    protocol = dataclasses.replace(BASE, guidance_scale=scale)
    noise = initial_latents(model.latent_shape, 1, image_specs(PROMPTS, 2))
    scheduler, z = make_scheduler(model, protocol), noise
    for t in scheduler.timesteps:
        z = scheduler.step(plainly(model, scale, z, t), t, z, return_dict=False)[0]
    assert torch.equal(denoise(model, PROMPTS, noise, protocol), z)


@pytest.mark.parametrize("scale", SCALES)
def test_sampling_paths_follow_the_formula_bit_by_bit(model: Backbone, make: Make, scale: float) -> None:
    harness = make()
    scheduler = sampling_paths.ddim(model.noise_schedule, 4)
    noise = z = initial_latents(model.latent_shape, 1, image_specs(PROMPTS, 2))
    for t in scheduler.timesteps[:3]:
        z = scheduler.step(plainly(model, scale, z, t), int(t), z, return_dict=False)[0]
    both = model.embed(["", "", *PROMPTS]).chunk(2) if guidance.passes(scale) == 2 else None
    null, prompt = both or (model.embed(["", ""]), model.embed(PROMPTS))
    start = sampling_paths.Start(noise, prompt, null, 3)
    assert torch.equal(sampling_paths.follow(harness.student, scheduler, [start], scale)[0], z)


def test_every_scale_draws_other_images(model: Backbone) -> None:
    noise = initial_latents(model.latent_shape, 1, image_specs(PROMPTS, 2))
    drawn = [denoise(model, PROMPTS, noise, dataclasses.replace(BASE, guidance_scale=s)) for s in SCALES]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert not torch.allclose(one, other, atol=1e-4)


def test_scale_0_does_not_depend_on_the_prompt(model: Backbone) -> None:
    noise = initial_latents(model.latent_shape, 1, image_specs(PROMPTS, 2))
    protocol = dataclasses.replace(BASE, guidance_scale=0.0)
    assert torch.equal(denoise(model, PROMPTS, noise, protocol), denoise(model, PROMPTS[::-1], noise, protocol))


@pytest.mark.parametrize(("scale", "passes"), [(0, 1), (0.5, 2), (1, 1), (1.5, 2), (7.5, 2)])
def test_passes_equals_the_images_per_network_call(scale: float, passes: int) -> None:
    seen: list[int] = []

    def predict(z: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        assert len(z) == len(embeds)
        seen.append(len(z))
        return z

    null, prompt = torch.zeros(3, 2, 4), torch.ones(3, 2, 4)
    embeds = torch.cat(guidance.conditions(scale, null, prompt))
    guidance.guided(predict, embeds, scale)(torch.zeros(3, 4, 8, 8), torch.tensor(1))
    assert seen == [3 * passes]
    assert guidance.passes(scale) == passes


@pytest.mark.parametrize("scale", WRONG)
def test_invalid_scales_raise_in_sampling_and_training(make: Make, model: Backbone, scale: float) -> None:
    said = refusal("guidance_scale", scale)
    with pytest.raises(ValueError, match=said):
        Protocol(guidance_scale=scale)
    with pytest.raises(ValueError, match=said):
        make().sampled(model.embed(["a photo"]), guidance_scale=scale)


def guided_settings() -> list[tuple[str, str]]:
    """Every setting of a registered method that is a guidance scale."""
    configs = {name: METHODS.get(name).Config for name in METHODS.names()}
    return [(n, f.name) for n, c in configs.items() for f in dataclasses.fields(c) if f.name.endswith("_guidance")]


@pytest.mark.parametrize(("method", "setting"), guided_settings())
def test_method_configs_refuse_invalid_guidance_scales(method: str, setting: str) -> None:
    assert len(guided_settings()) >= 6
    for scale in WRONG:
        with pytest.raises(ValueError, match=refusal(setting, scale)):
            METHODS.get(method).Config(**{setting: scale})
    METHODS.get(method).Config(**{setting: 0.0})


def test_the_command_line_names_the_setting_that_it_refuses(world: object) -> None:
    with pytest.raises(ValueError, match=r"protocol: guidance_scale must be a finite number of at least 0, not -2\.0"):
        resolve(RunConfig(world="tiny", overrides={"protocol": {"guidance_scale": "-2"}}))
