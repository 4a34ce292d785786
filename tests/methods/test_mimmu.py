"""MiM-MU: its settings against formulas that are computed on separate networks, and what it uses.

test_fidelity.py has the loss at the default settings.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.workplace import NetworkCopies, midway, small

from bench.backbones.pipeline import Backbone
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from methods.base import PARAMETERS


def predict(net: torch.nn.Module, z: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    return net(z, t, encoder_hidden_states=embeds).sample


def superclass(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """|| eps_theta(z_t, c) - eps*(z_t, superclass) ||^2."""
    z, _, t = harness.noised(batch.latents, 50, 950)
    target = predict(nets.teacher, z, t, harness.superclass_embeds(batch.concepts, batch.templates))
    return F.mse_loss(predict(nets.student, z, t, batch.prompt_embeds), target.detach())


def teacher_path(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """|| eps_theta(z_t, c) - eps*(z_t, null) ||^2 on the teacher's sampling path."""
    z, t = harness.sampled(batch.prompt_embeds, "teacher", 3.0, 2, 50, 950)
    target = predict(nets.teacher, z, t, harness.null_embeds(len(batch)))
    return F.mse_loss(predict(nets.student, z, t, batch.prompt_embeds), target.detach())


def snr(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """min(|dl/dt|, 0.05) || eps_theta(z_t, c) - eps*(z_t, null) ||^2, the weights scaled to mean 1."""
    z, _, t = harness.noised(batch.latents, 0, 999)
    log_snr = torch.logit(harness.noise_scheduler.alphas_cumprod.double())
    w = torch.gradient(log_snr)[0].abs().clamp(max=0.05)
    target = predict(nets.teacher, z, t, harness.null_embeds(len(batch))).detach()
    error = predict(nets.student, z, t, batch.prompt_embeds) - target
    return ((w / w.mean())[t].float()[:, None, None, None] * error.square()).mean()


def sds(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """The bound's gradient in x_0, eps_theta(x_s, c) - eps*(x_s, null), passed to the prediction that x_0 came from."""
    return judged_by(nets.student, harness, nets, batch)


def critic(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """The gradient of log p*(x_s|c) - log p*(x_s|null) in x_0, eps*(x_s, c) - eps*(x_s, null), passed like sds."""
    return judged_by(nets.teacher, harness, nets, batch)


def judged_by(conditional: torch.nn.Module, harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    z, _, t = harness.noised(batch.latents, 50, 950)
    predicted = predict(nets.student, z, t, batch.prompt_embeds)
    alpha = harness.noise_scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    x0 = (z - (1 - alpha).sqrt() * predicted.detach()) / alpha.sqrt()
    x_s, _, s = harness.noised(x0, 50, 950)
    null = harness.null_embeds(len(batch))
    gap = (predict(conditional, x_s, s, batch.prompt_embeds) - predict(nets.teacher, x_s, s, null)).detach()
    slope = 2 * (gap * predicted).mean()
    return gap.square().mean() + slope - slope.detach()


def apart(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """d = mean (eps_theta(z_t, c) - eps*(z_t, null))^2 for each example."""
    z, _, t = harness.noised(batch.latents, 50, 950)
    target = predict(nets.teacher, z, t, harness.null_embeds(len(batch))).detach()
    return (predict(nets.student, z, t, batch.prompt_embeds) - target).square().flatten(1).mean(1)


def hellinger(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """H^2 = 1 - exp(-d / 8 sigma^2) of two Gaussians with sigma = 1."""
    return (1 - (-apart(harness, nets, batch) / 8).exp()).mean()


def chi2(harness: Harness, nets: NetworkCopies, batch: Batch) -> torch.Tensor:
    """chi^2 = exp(d / sigma^2) - 1 of two Gaussians with sigma = 1."""
    return (apart(harness, nets, batch).exp() - 1).mean()


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"target": "rest"}, superclass),
        ({"x_source": "teacher"}, teacher_path),
        ({"weighting": "snr", "t_min": 0, "t_max": 999}, snr),
        ({"objective": "sds"}, sds),
        ({"objective": "critic"}, critic),
        ({"divergence": "hellinger"}, hellinger),
        ({"divergence": "chi2"}, chi2),
    ],
)
def test_mimmu_setting_has_the_loss_and_gradients_of_its_formula(
    settings: dict[str, object],
    formula: Callable[[Harness, NetworkCopies, Batch], torch.Tensor],
    harness: Callable[[int], Harness],
) -> None:
    workplace, method = harness(0), small("mimmu", **settings)
    batch = next(workplace.forget_batches(4))
    with midway(workplace, method) as nets:
        random_state = workplace.generator.get_state()
        loss = method.loss(workplace, batch)
        loss.backward()
        workplace.generator.set_state(random_state)
        expected = formula(workplace, nets, batch)
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        for name, parameter in workplace.trained.items():
            gradient, theirs = parameter.grad, nets.student.get_parameter(name).grad
            assert gradient is not None
            assert gradient.any()
            assert torch.allclose(gradient, theirs, rtol=1e-3, atol=1e-5 * gradient.abs().max().item())


@pytest.mark.parametrize(("objective", "student_forwards"), [("align", 1), ("sds", 2)])
def test_mimmu_moves_the_concept_to_the_null_prediction(
    harness: Callable[[int], Harness], model: Backbone, world: World, objective: str, student_forwards: int
) -> None:
    workplace = harness(0)
    prompt = world.prompts("forget", world.concepts[0])[0]
    generator = torch.Generator().manual_seed(9)
    z, t = torch.randn(16, *model.latent_shape, generator=generator), torch.linspace(60, 940, 16).long()
    null, concept = model.embed([""] * 16), model.embed([prompt] * 16)

    def predict(embeds: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.unet(z, t, encoder_hidden_states=embeds).sample

    target, before = predict(null), predict(concept)
    outcome = unlearn(workplace, small("mimmu", epochs=20, objective=objective))
    with model.weights(outcome.delta):
        after = predict(concept)
    assert F.mse_loss(after, target) < 0.5 * F.mse_loss(before, target)
    assert outcome.data_use.compensation == "none"
    assert all(".attn2." in key for key in outcome.delta)
    assert outcome.cost["teacher_forwards"] == outcome.cost["steps"] == 40
    assert outcome.cost["student_forwards"] == student_forwards * 40


def test_mimmu_loss_is_zero_for_the_null_prompt(harness: Callable[[int], Harness]) -> None:
    workplace = harness(0)
    batch = next(workplace.forget_batches(4))
    method = small("mimmu")
    silent = dataclasses.replace(batch, prompt_embeds=workplace.null_embeds(4))
    assert method.loss(workplace, silent).item() < 1e-10 < method.loss(workplace, batch).item()


@pytest.mark.parametrize("settings", [
    {"weighting": "logistic"},
    {"weighting": "snr", "x_source": "student"},
    {"objective": "sds", "weighting": "logistic", "parameters": "attn2-kv"},
])  # fmt: skip
def test_mimmu_settings_combine(harness: Callable[[int], Harness], settings: dict[str, str]) -> None:
    workplace = harness(0)
    outcome = unlearn(workplace, small("mimmu", **settings))
    assert outcome.delta
    assert all(PARAMETERS[settings.get("parameters", "attn2")](key) for key in outcome.delta)
    assert len(outcome.data_use.forget_images) == (0 if settings.get("x_source") else 8)
    assert outcome.data_use.compensation == "none"


def test_mimmu_superclass_prompts_count_as_compensation(harness: Callable[[int], Harness], world: World) -> None:
    outcome = unlearn(harness(0), small("mimmu", target="rest"))
    name = world.concepts[0]
    assert outcome.data_use.anchor_prompts == {p.replace(name, "dog") for p in world.prompts("forget", name)[:2]}
    assert outcome.data_use.compensation == "anchor prompts"


def test_mimmu_superclass_target_needs_superclass_prompts(
    harness: Callable[[int], Harness], world: World, model: Backbone
) -> None:
    workplace = Harness(model, *(getattr(harness(0), n) for n in ("task", "_forget", "_make_retain", "_prompts")), 0)
    with pytest.raises(ValueError, match=f"no prompts that leave out '{world.concepts[0]}'"):
        unlearn(workplace, small("mimmu", target="rest"))


@pytest.mark.parametrize("wrong", [
    {"weighting": "flat"}, {"x_source": "retain"}, {"objective": "kl"}, {"target": "sibling"},
    {"divergence": "js"}, {"divergence": "js", "target": "rest"},
    {"parameters": "text"}, {"weighting": "logistic", "x_source": "student"},
])  # fmt: skip
def test_mimmu_config_refuses_unknown_settings(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        small("mimmu", **wrong)


def test_mimmu_divergence_needs_a_distance() -> None:
    with pytest.raises(ValueError, match="objective=sds is a gradient and no distance: it takes divergence=kl"):
        small("mimmu", objective="sds", divergence="chi2")
