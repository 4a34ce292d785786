"""Methods that act while sampling, against their formulas: every prediction is worked out again in plain PyTorch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionPipelineSafe
from support.workplace import small

from bench.backbones import pipeline
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, image_specs, initial_latents, make_scheduler, sample
from bench.core.config import Protocol
from bench.core.guidance import Embed, Guidance, Predict, PredictStep
from methods import METHODS, Method
from methods.safree import SafreeConfig, last_step, projector, triggers
from methods.skip_filter import SkipFilter
from methods.sld import STRENGTHS, SafetyGuidance, SldConfig

PROMPTS = ("a photo of a golden retriever", "one photo of a blue jay")
CONCEPTS = ("golden retriever", "blue jay")
STEPS, SCALE = 5, 3.0
PROTOCOL = Protocol(scheduler="ddim", num_inference_steps=STEPS, guidance_scale=SCALE)
NAMES = ("negative-prompt", "sld", "safree")
OFF = {"negative-prompt": {"strength": 0.0}, "sld": {"safety_scale": 0.0}, "safree": {"strength": 0.0}}
Step = tuple[torch.Tensor, int, torch.Tensor]  # the latents, the timestep, and the prediction
Eps = Callable[[torch.Tensor, int, Sequence[str] | torch.Tensor], torch.Tensor]


class Recording(Guidance):
    """Another guidance, with what it gets and returns in each step."""

    def __init__(self, guidance: Guidance) -> None:
        self.guidance, self.steps = guidance, list[Step]()

    def start(
        self, prompts: Sequence[str], predict: Predict, embed: Embed, scale: float, timesteps: torch.Tensor
    ) -> PredictStep:
        inner = self.guidance.start(prompts, predict, embed, scale, timesteps)

        def predict_step(latents: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            found = inner(latents, t, step)
            self.steps.append((latents.clone(), int(t), found.clone()))
            return found

        return predict_step


def recorded(model: Backbone, method: Method, scale: float = SCALE, concepts: Sequence[str] = CONCEPTS) -> list[Step]:
    """Every step of sampling one image of each prompt while the method acts."""
    protocol = Protocol(scheduler="ddim", num_inference_steps=STEPS, guidance_scale=scale)
    with method.attach(model, concepts, {}):
        recording = Recording(model.guidance)
        with model.guided_by(recording):
            sample(model, image_specs(PROMPTS, 2), protocol, seed=3, batch_size=2, as_images=False)
    assert len(recording.steps) == STEPS
    return recording.steps


@pytest.fixture(scope="module")
def model(pipeline_folder: Path, device: torch.device) -> Backbone:
    """The tiny pipeline in fp32, loaded once: what acts leaves it as it was."""
    return pipeline.load(pipeline_folder, device, precision="fp32")


@pytest.fixture
def eps(model: Backbone) -> Eps:
    """The network's prediction for prompts, or for text states."""

    @torch.no_grad()
    def predict(z: torch.Tensor, t: int, prompts: Sequence[str] | torch.Tensor) -> torch.Tensor:
        states = prompts if isinstance(prompts, torch.Tensor) else encode(model, prompts)[0]
        return model.unet(z, torch.tensor(t), encoder_hidden_states=states).sample

    return predict


@torch.no_grad()
def encode(model: Backbone, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Text states, pooled states and token ids."""
    ids = model.pipeline.tokenizer([*prompts], padding="max_length", max_length=20, return_tensors="pt").input_ids
    found = model.pipeline.text_encoder(ids)
    return found.last_hidden_state, found.pooler_output, ids


def assert_same(steps: Sequence[Step], expected: Sequence[torch.Tensor]) -> None:
    """The first, the middle and the last prediction, and all others."""
    for i in (0, STEPS // 2, STEPS - 1, *range(STEPS)):
        assert torch.allclose(steps[i][2], expected[i], rtol=0, atol=1e-5), i
        assert expected[i].abs().max() > 0.1


@pytest.mark.parametrize(("strength", "scale"), [(1.0, 3.0), (0.25, 3.0), (1.0, 1.0), (0.25, 0.0)])
def test_negative_prompt_is_its_formula(model: Backbone, eps: Eps, strength: float, scale: float) -> None:
    steps = recorded(model, small("negative-prompt", strength=strength), scale)
    expected = []
    for z, t, _ in steps:
        null, concept, prompt = eps(z, t, ("", "")), eps(z, t, ("golden retriever, blue jay",) * 2), eps(z, t, PROMPTS)
        branch = (1 - strength) * null + strength * concept
        expected.append(branch + scale * (prompt - branch))
    assert_same(steps, expected)


def test_negative_prompt_is_that_of_diffusers(model: Backbone) -> None:
    method, specs = small("negative-prompt"), [ImageSpec(prompt, 0) for prompt in PROMPTS]
    told, lacking = method.export(CONCEPTS)
    assert (told["pipeline"], lacking) == ("StableDiffusionPipeline", "")
    with method.attach(model, CONCEPTS, {}):
        ours = sample(model, specs, PROTOCOL, seed=1, batch_size=2, as_images=False)
    theirs = StableDiffusionPipeline(
        **parts(model), scheduler=make_scheduler(model, PROTOCOL), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    negative = [told["call"]["negative_prompt"]] * 2
    found = theirs(
        [*PROMPTS], negative_prompt=negative, latents=initial_latents(model.latent_shape, 1, specs),
        num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent",
    ).images  # fmt: skip
    assert (ours - found).abs().max() < 1e-4
    assert (ours - sample(model, specs, PROTOCOL, 1, 2, as_images=False)).abs().max() > 1e-2


def parts(model: Backbone) -> dict[str, Any]:
    return {name: getattr(model.pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}


@pytest.mark.parametrize(
    "settings",
    [
        {"strength": "weak"},
        {},
        {"strength": "strong", "warmup": 25.0, "threshold": 0.3},
        {"strength": "max", "safety_scale": 2.0},
        {"clamp": "at-least-one", "safety_scale": 1.5, "threshold": 0.1},
    ],
)
def test_sld_is_its_formula(model: Backbone, eps: Eps, settings: dict[str, Any]) -> None:
    table = {
        "weak": (15, 200, 0, 0, 0), "medium": (10, 1000, 0.01, 0.3, 0.4),
        "strong": (7, 2000, 0.025, 0.5, 0.7), "max": (0, 5000, 1.0, 0.5, 0.7),
    }  # fmt: skip
    usual = table[settings.get("strength", "medium")]
    names = ("warmup", "safety_scale", "threshold", "momentum_scale", "momentum_beta")
    delta, s_safe, limit, s_m, beta = (settings.get(name, value) for name, value in zip(names, usual, strict=True))
    steps = recorded(model, small("sld", **settings))
    every = ("", "", *PROMPTS, *["golden retriever, blue jay"] * 2)
    nu, expected, acted = torch.zeros(2, *model.latent_shape), [], []
    for i, (z, t, _) in enumerate(steps):
        # in one batch: s_S would multiply the rounding that differs between batches
        null, prompt, concept = eps(torch.cat([z] * 3), t, every).chunk(3)
        phi = s_safe * (prompt - concept)
        one = torch.ones(())
        mu = torch.maximum(one, phi.abs()) if "clamp" in settings else torch.minimum(one, phi.abs())
        mu[prompt - concept >= limit] = 0
        gamma = mu * (concept - null) + s_m * nu
        nu = beta * nu + (1 - beta) * gamma
        acts = i * 50 / STEPS >= delta
        expected.append(null + SCALE * (prompt - null - (gamma if acts else 0)))
        acted.append(bool(acts and (gamma.abs() > 1e-4).any()))
    assert acted == [i * 10 >= delta for i in range(STEPS)]  # every term has a part in the prediction
    assert_same(steps, expected)


def test_sld_is_that_of_diffusers(model: Backbone) -> None:
    """Latents, against the pipeline of the paper's authors in diffusers."""
    method, protocol = small("sld", strength="max", warmup=15.0), dataclasses.replace(PROTOCOL, num_inference_steps=10)
    specs = [ImageSpec(prompt, 0) for prompt in PROMPTS]
    plain = sample(model, specs, protocol, seed=1, batch_size=2, as_images=False)
    with method.attach(model, CONCEPTS[:1], {}):
        ours = sample(model, specs, protocol, seed=1, batch_size=2, as_images=False)
    theirs = StableDiffusionPipelineSafe(
        **parts(model), scheduler=make_scheduler(model, protocol), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    told, lacking = method.export(CONCEPTS[:1])
    assert (told["pipeline"], lacking) == ("StableDiffusionPipelineSafe", "")
    theirs.safety_concept = told["safety_concept"]
    call = {**told["call"], "num_inference_steps": 10, "sld_warmup_steps": 3}  # 15 of 50 steps
    kept: list[torch.Tensor] = []
    theirs(
        [*PROMPTS], latents=initial_latents(model.latent_shape, 1, specs), guidance_scale=SCALE, output_type="np",
        callback=lambda step, t, latents: kept.append(latents), **call,
    )  # fmt: skip
    assert (ours - kept[-1]).abs().max() < 1e-4
    assert (ours - plain).abs().max() > 1e-2


@pytest.mark.parametrize("strength", STRENGTHS)
def test_sld_waits_for_its_published_number_of_steps(strength: str) -> None:
    """In 50 steps, each prediction differs from the plain one from step delta on."""

    def embed(prompts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([{"": 0.0, "p": 0.5, "S": 1.0}[prompt] for prompt in prompts]).view(-1, 1, 1)

    guidance = SafetyGuidance("S", SldConfig(strength=strength))
    step = guidance.start(["p"], lambda z, t, e: e.view(-1, 1, 1, 1), embed, 7.5, torch.arange(50))
    found = [float(step(torch.zeros(1, 1, 1, 1), torch.tensor(0), i)) for i in range(50)]
    first = {"weak": 15, "medium": 10, "strong": 7, "max": 0}[strength]
    assert [value != 7.5 * 0.5 for value in found] == [i >= first for i in range(50)]
    assert found[first] <= 7.5 * (0.5 - 1.0) + 1e-6  # mu is 1 at the gap of 0.5: the clamp


def plain_safree(
    model: Backbone, prompts: Sequence[str], alpha: float, order: str
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Text states, the same with projected triggers, and z of each prompt."""

    def project(columns: torch.Tensor) -> torch.Tensor:
        return columns @ torch.linalg.pinv(columns.T @ columns, rtol=1e-9, hermitian=True) @ columns.T

    states, _, ids = encode(model, prompts)
    identity = torch.eye(32, dtype=torch.float64)
    p_c = project(encode(model, CONCEPTS)[1].double().T)
    new, zs = states.clone(), []
    for b, row in enumerate(ids):
        n = (row == model.pipeline.tokenizer.eos_token_id).nonzero()[0].item() - 1
        masked = torch.stack([torch.where(torch.arange(20) == j + 1, 0, row) for j in range(int(n))])
        with torch.no_grad():
            pooled = model.pipeline.text_encoder(masked).pooler_output.double()
        p_i = project(pooled.T)
        distance = [float(((identity - p_c) @ p).norm()) for p in pooled]
        matrix = p_i @ (identity - p_c) if order == "paper" else (identity - p_c) @ p_i
        for j in range(int(n)):
            others = [d for k, d in enumerate(distance) if k != j]
            if not others or distance[j] >= (1 + alpha) * sum(others) / len(others):
                new[b, j + 1] = (matrix @ states[b, j + 1].double()).float()
        cosines = [torch.cosine_similarity(matrix @ e.double(), e.double(), dim=0) for e in states[b, : int(n) + 2]]
        zs.append(1 - float(sum(cosines)) / len(cosines))
    return states, new, zs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": "code", "alpha": 0.0},
        {"validation": "code", "strength": 0.5},
        {"validation": "none", "order": "code"},
    ],
)
def test_safree_is_its_formula(model: Backbone, eps: Eps, settings: dict[str, Any]) -> None:
    states, projected, zs = plain_safree(model, PROMPTS, settings.get("alpha", 0.01), settings.get("order", "paper"))
    assert (states != projected).flatten(1).any(1).all()  # both prompts have a trigger
    projected = states + settings.get("strength", 1.0) * (projected - states)
    kind = settings.get("validation", "paper")
    sigma = [1 / (1 + math.exp(-(z if kind == "paper" else 5 * (10 * z - 5.333)))) for z in zs]
    last = [math.inf if kind == "none" else round(10 * s) for s in sigma]
    steps = recorded(model, small("safree", **settings))
    expected = []
    for i, (z, t, _) in enumerate(steps):
        used = torch.stack([projected[b] if i * 50 / STEPS <= last[b] else states[b] for b in range(2)])
        null = eps(z, t, ("", ""))
        expected.append(null + SCALE * (eps(z, t, used) - null))
    assert_same(steps, expected)


def test_safree_projectors_and_triggers(model: Backbone) -> None:
    columns = torch.randn(32, 5, dtype=torch.float64)
    columns[:, 4] = 2 * columns[:, 0]  # one direction twice
    p = projector(columns.T)
    assert torch.allclose(p @ p, p)
    assert torch.allclose(p, p.T)
    assert torch.allclose(p @ columns, columns)
    assert round(float(p.trace())) == 4
    distances = torch.tensor([1.0, 1.0, 1.0, 1.05])
    assert triggers(distances, 0.01).tolist() == [False, False, False, True]
    assert not triggers(distances, 1e9).any()
    assert triggers(distances[:1], 1e9).all()  # a prompt of one token has nothing to compare with
    assert [last_step(z, SafreeConfig()) for z in (0.0, 0.5, 1.0)] == [5, 6, 7]
    assert [last_step(z, SafreeConfig(validation="code")) for z in (0.473, 0.593)] == [0, 10]


def test_safree_compares_the_states_of_all_attended_tokens(model: Backbone) -> None:
    zs = plain_safree(model, PROMPTS, 0.01, "paper")[2]
    with METHODS.get("safree")(SafreeConfig(gamma=1e5)).attach(model, CONCEPTS, {}):  # t' tells z to five digits
        held: Any = model.guidance
        for prompt, z in zip(PROMPTS, zs, strict=True):
            assert abs(held.projected(prompt)[1] - 1e5 / (1 + math.exp(-z))) < 2


def test_safree_with_infinite_margin_and_on_short_prompts(model: Backbone) -> None:
    guidance = METHODS.get("safree")(SafreeConfig(alpha=1e9))
    with guidance.attach(model, CONCEPTS, {}):
        held: Any = model.guidance
        for prompt in (PROMPTS[0], ""):
            assert torch.equal(held.projected(prompt)[0], model.embed([prompt])[0])
        alone, t = held.projected("a")
    assert alone.isfinite().all()
    assert (alone != model.embed(["a"])[0]).any(1).tolist() == [False, True, *[False] * 18]  # the one token
    assert t in (5, 6, 7)


def test_safree_in_the_order_of_the_code_leaves_nothing_of_the_concepts(model: Backbone) -> None:
    pooled = encode(model, CONCEPTS)[1]
    with METHODS.get("safree")(SafreeConfig(order="code")).attach(model, CONCEPTS, {}):
        held: Any = model.guidance
        states = held.projected(PROMPTS[0])[0]
    moved = (states != model.embed(PROMPTS[:1])[0]).any(1)
    assert moved.any()
    assert (states[moved] @ pooled.T).abs().max() < 1e-4 * pooled.norm()


def test_safree_reattention_filters_low_frequencies_of_deep_skips(model: Backbone, eps: Eps) -> None:
    steps = recorded(model, small("safree", reattention=True, validation="none"))
    states, projected, _ = plain_safree(model, PROMPTS, 0.01, "paper")
    expected = []
    for z, t, _ in steps:
        before, null = list[tuple[torch.Tensor, ...]](), eps(z, t, ("", ""))

        def keep(skips: tuple[torch.Tensor, ...], before: Any = before) -> tuple[torch.Tensor, ...]:
            before.append(skips)
            return skips

        def weaker(skips: tuple[torch.Tensor, ...], before: Any = before) -> tuple[torch.Tensor, ...]:
            return tuple(plain_filter(now, then) for now, then in zip(skips, before.pop(0), strict=True))

        with hooked(model.unet, keep):
            eps(z, t, states)
        with hooked(model.unet, weaker):
            expected.append(null + SCALE * (eps(z, t, projected) - null))
    assert_same(steps, expected)
    plain = recorded(model, small("safree", validation="none"))
    assert (plain[-1][2] - steps[-1][2]).abs().max() > 1e-3


def plain_filter(now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    scale = {16: 0.9, 8: 0.2}[now.shape[1]]  # the widths of the tiny U-Net
    middle = now.shape[-1] // 2
    a, b = (torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1)) for x in (now, then))
    for i in (middle - 1, middle):
        for j in (middle - 1, middle):
            a[..., i, j] *= torch.where(a[..., i, j].abs() > b[..., i, j].abs(), scale, 1.0)
    return torch.fft.ifftn(torch.fft.ifftshift(a, dim=(-2, -1)), dim=(-2, -1)).real


@contextmanager
def hooked(unet: Any, change: Callable[[tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]) -> Any:
    def replace(module: object, given: Any, named: dict[str, Any]) -> Any:
        return given, {**named, "res_hidden_states_tuple": change(named["res_hidden_states_tuple"])}

    handles = [block.register_forward_pre_hook(replace, with_kwargs=True) for block in unet.up_blocks]
    yield
    for handle in handles:
        handle.remove()


def test_skip_filter_leaves_other_rows_and_widths(model: Backbone) -> None:
    skips, features = SkipFilter(model.unet, (0.5, 0.25)), torch.randn(6, 16, 4, 4)
    found = skips.filtered(features, 2)
    assert torch.equal(found[[0, 1, 4, 5]], features[[0, 1, 4, 5]])
    assert not torch.allclose(found[2:4], features[2:4])
    assert torch.equal(skips.filtered(features[:, :4], 2), features[:, :4])


@pytest.mark.parametrize("name", NAMES)
def test_pictures_at_strength_zero_are_those_of_the_untouched_model(model: Backbone, name: str) -> None:
    specs = image_specs(PROMPTS, 4)
    untouched = sample(model, specs, PROTOCOL, seed=1, batch_size=4)
    off, on = small(name, **OFF[name]), small(name)
    with off.attach(model, CONCEPTS, {}):
        assert torch.equal(sample(model, specs, PROTOCOL, seed=1, batch_size=4), untouched)
    with on.attach(model, CONCEPTS, {}):
        assert not torch.equal(sample(model, specs, PROTOCOL, seed=1, batch_size=4), untouched)
    assert torch.equal(sample(model, specs, PROTOCOL, seed=1, batch_size=4), untouched)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in NAMES), *OFF.items(), ("negative-prompt", {"strength": 0.5}),
        ("safree", {"reattention": True}),
    ],
)  # fmt: skip
def test_methods_tell_their_forward_passes(model: Backbone, name: str, settings: dict[str, Any], scale: float) -> None:
    seen = []
    handle = model.unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    method = small(name, **settings)
    protocol = Protocol(scheduler="ddim", num_inference_steps=2, guidance_scale=scale)
    with method.attach(model, CONCEPTS, {}):
        sample(model, image_specs(PROMPTS, 2), protocol, seed=1, batch_size=2)
    handle.remove()
    assert seen == [2 * method.passes(scale)] * 2


@pytest.mark.parametrize("name", ["negative-prompt", "sld"])
def test_concepts_that_do_not_fit_one_prompt_are_refused(model: Backbone, name: str) -> None:
    with pytest.raises(ValueError, match=r"has 2[1-9] tokens, and the text encoder reads 20"):
        small(name).attach(model, ("golden retriever",) * 8, {})


def test_export_says_what_diffusers_lacks() -> None:
    assert small("negative-prompt").export(CONCEPTS) == (
        {"pipeline": "StableDiffusionPipeline", "call": {"negative_prompt": "golden retriever, blue jay"}}, "",
    )  # fmt: skip
    assert "the strength 0.5" in small("negative-prompt", strength=0.5).export(CONCEPTS)[1]
    assert "clamp=at-least-one" in small("sld", clamp="at-least-one").export(CONCEPTS)[1]
    assert small("safree").export(CONCEPTS) == ({}, "everything that the method does while images are sampled")
