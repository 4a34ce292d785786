"""EraseDiff and Scissorhands: how two gradients meet in a step, and the trimmed weights, worked out plainly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.workplace import small

from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import unlearn
from methods.erasediff import EraseDiff
from methods.shs import Shs

Make = Callable[[int], Harness]
Gradients = dict[str, torch.Tensor]


def dot(a: Gradients, b: Gradients) -> float:
    return float(sum((a[n] * b[n]).double().sum() for n in a))


def denoising(harness: Harness, net: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """|| eps_theta(r_t, c_r) - eps ||^2 on as many retained images."""
    kept = harness.retain_batch(len(batch))
    r, noise, t = harness.noised(kept.latents)
    return F.mse_loss(net(r, t, encoder_hidden_states=kept.prompt_embeds).sample, noise)


def gradients(net: torch.nn.Module, loss: torch.Tensor) -> Gradients:
    named = dict(net.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True), strict=True))


def left(harness: Harness) -> Gradients:
    return {n: p.grad.clone() for n, p in harness.trained.items() if p.grad is not None}


@pytest.mark.parametrize(("settings", "weight"), [({"weight": 0.5}, 0.5), ({"weight": None, "eta": 40.0}, None)])
def test_erasediff_adds_the_forgetting_gradient(harness: Make, settings: dict[str, Any], weight: float | None) -> None:
    method, place = small("erasediff", **settings), harness(0)
    assert isinstance(method, EraseDiff)
    batch = next(place.forget_batches(4))
    with place.trainable(method.trains):
        method.prepare(place)
        plain = copy.deepcopy(place.unet)
        state = place.generator.get_state()
        method.loss(place, batch).backward()
        retaining = left(place)
        method.after_backward(place)
        step = left(place)

        place.generator.set_state(state)
        z, _, t = place.noised(batch.latents)
        others = [place.choose(place.task.in_domain) for _ in range(4)]
        relabelled = place.anchor_embeds(others, batch.templates)
        with torch.no_grad():
            target = plain(z, t, encoder_hidden_states=relabelled).sample
        q = gradients(plain, F.mse_loss(plain(z, t, encoder_hidden_states=batch.prompt_embeds).sample, target))
        expected = gradients(plain, denoising(place, plain, batch))
        for name, gradient in expected.items():
            assert torch.allclose(retaining[name], gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-9)
        lamb = max(0.0, 40.0 - dot(expected, q) / dot(q, q)) if weight is None else weight
        assert lamb > 0
        for name, gradient in expected.items():
            whole = gradient + lamb * q[name]
            assert torch.allclose(step[name], whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()) + 1e-9)
    if weight is None:  # the step lowers the forgetting loss as fast as eta says
        assert dot(step, q) == pytest.approx(40.0 * dot(q, q), rel=1e-3)


def test_erasediff_leaves_a_gradient_that_forgets_by_itself(harness: Make) -> None:
    method, place = small("erasediff", eta=1e-3), harness(0)
    assert isinstance(method, EraseDiff)
    with place.trainable(method.trains):
        for parameter in place.trained.values():
            parameter.grad = torch.ones_like(parameter)
        method.forgetting = {n: torch.ones_like(p) for n, p in place.trained.items()}
        method.after_backward(place)
        assert all(torch.equal(g, torch.ones_like(g)) for g in left(place).values())


def test_shs_draws_the_most_salient_weights_anew(harness: Make) -> None:
    method, place = small("shs", trimmed=0.02, deviation=0.5), harness(0)
    assert isinstance(method, Shs)
    with place.trainable(method.trains):
        state = place.generator.get_state()
        plain, before = copy.deepcopy(place.unet), {n: p.detach().clone() for n, p in place.trained.items()}
        method.prepare(place)
        after = {n: p.detach().clone() for n, p in place.trained.items()}
        memory = method.memory

        place.generator.set_state(state)
        sums = {n: torch.zeros_like(p) for n, p in before.items()}
        for batch in place.forget_batches(4):
            z, noise, t = place.noised(batch.latents)
            c = plain(z, t, encoder_hidden_states=batch.prompt_embeds).sample
            null = plain(z, t, encoder_hidden_states=place.null_embeds(len(batch))).sample
            for name, gradient in gradients(plain, F.mse_loss(8.5 * c - 7.5 * null, noise)).items():
                sums[name] += gradient.abs()
    scores = torch.cat([(before[n].abs() * sums[n]).flatten() for n in before])
    changed = torch.cat([(before[n] != after[n]).flatten() for n in before])
    count = round(0.02 * len(scores))
    salient = torch.zeros_like(changed)
    salient[scores.topk(count).indices] = True
    assert (changed & ~salient).sum() < 0.001 * count  # rounding at the threshold
    assert changed.sum() > 0.98 * count
    new = torch.cat([after[n][before[n] != after[n]] for n in before if before[n].dim() > 1])
    assert 0.3 < new.std() < 0.5
    assert new.abs().max() <= 1.0
    assert all((after[n][before[n] != after[n]] == 0).all() for n in before if before[n].dim() == 1)
    assert memory.keys() == before.keys()


def test_shs_projects_a_gradient_that_would_bring_the_concept_back(harness: Make) -> None:
    method, place = small("shs"), harness(0)
    assert isinstance(method, Shs)
    generator = torch.Generator().manual_seed(0)
    with place.trainable(method.trains):
        method.memory = {n: torch.randn(p.shape, generator=generator) for n, p in place.trained.items()}
        for sign in (1.0, -1.0):
            for name, parameter in place.trained.items():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.grad = sign * 0.3 * method.memory[name] + noise
            before = left(place)
            method.after_backward(place)
            after = left(place)
            assert (dot(before, method.memory) > 0) == (sign > 0)
            if sign > 0:
                assert all(torch.equal(before[n], after[n]) for n in before)
            else:
                v = max(0.5, -dot(before, method.memory) / (dot(method.memory, method.memory) + 1e-3))
                for name, gradient in before.items():
                    assert torch.allclose(after[name], gradient + v * method.memory[name], atol=1e-4)
                assert dot(after, method.memory) > -1e-2 * dot(method.memory, method.memory)
        method = small("shs", projected=False)
        for parameter in place.trained.values():
            parameter.grad = torch.ones_like(parameter)
        method.after_backward(place)
        assert all(torch.equal(g, torch.ones_like(g)) for g in left(place).values())


@pytest.mark.parametrize("name", ["erasediff", "shs"])
def test_both_use_retained_images(harness: Make, name: str) -> None:
    outcome = unlearn(harness(0), small(name))
    assert "retain images" in outcome.data_use.compensation
    assert outcome.cost["steps"] == 2


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("erasediff", {"weight": -1.0}, "weight must be at least 0"),
        ("erasediff", {"eta": 0.0}, "eta must be more than 0"),
        ("shs", {"trimmed": 1.0}, "trimmed must be more than 0 and less than 1"),
        ("shs", {"deviation": 0.0}, "deviation must be more than 0"),
        ("shs", {"alpha": -0.1}, "alpha at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(name, **settings)
