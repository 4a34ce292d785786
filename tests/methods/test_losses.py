"""Losses against their formulas, worked out on separate networks."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.workplace import small

from bench.backbones.pipeline import Backbone
from bench.training.harness import Batch, Harness
from methods.family import erasure_target


@dataclasses.dataclass
class Networks:
    """A harness in the middle of training: student and average have left the teacher; a separate copy of each."""

    harness: Harness
    student: torch.nn.Module
    teacher: torch.nn.Module
    average: torch.nn.Module

    def predict(self, name: str, z: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        return getattr(self, name)(z, t, encoder_hidden_states=embeds).sample


@pytest.fixture
def networks(harness: Callable[[int], Harness], model: Backbone) -> Networks:
    made, copies = harness(0), {"teacher": copy.deepcopy(model.unet)}
    made.trained = {n: p for n, p in made.unet.named_parameters() if ".attn2." in n}
    made.frozen = {n: p.detach().clone() for n, p in made.trained.items()}
    for name in ("average", "student"):
        with torch.no_grad():
            for parameter in made.trained.values():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if name == "average":
            made.averaged = {n: p.detach().clone() for n, p in made.trained.items()}
        for parameter in made.trained.values():
            parameter.requires_grad_(name == "student")
        copies[name] = copy.deepcopy(model.unet)
    return Networks(made, **copies)


class Hand:
    """What a method draws from the harness, drawn again, and its loss worked out on the separate networks."""

    def __init__(self, networks: Networks, batch: Batch) -> None:
        self.n, self.h, self.batch, self.c = networks, networks.harness, batch, batch.prompt_embeds
        self.null = self.h.null(len(batch))

    def predict(self, name: str, z: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        out = self.n.predict(name, z, t, embeds)
        return out if name == "student" else out.detach()

    def pulled(self, z: torch.Tensor, t: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(self.predict("student", z, t, self.c), target.detach())

    def esd(self) -> torch.Tensor:
        z, t = self.h.sampled(self.c, "student", 3.0, 2)
        return self.pulled(z, t, 2 * self.predict("teacher", z, t, self.null) - self.predict("teacher", z, t, self.c))

    def sdd(self) -> torch.Tensor:
        z, t = self.h.sampled(self.c, "average", 3.0, 2)
        return self.pulled(z, t, self.predict("student", z, t, self.null))

    def mimmu(self) -> torch.Tensor:
        z, _, t = self.h.noised(self.batch.latents, 50, 950)
        return self.pulled(z, t, self.predict("teacher", z, t, self.null))

    def mimmu_retain(self) -> torch.Tensor:
        kept = self.h.retain_batch(len(self.batch))
        z, _, t = self.h.noised(kept.latents, 50, 950)
        student, teacher = (self.predict(name, z, t, kept.prompt_embeds) for name in ("student", "teacher"))
        return self.mimmu() + 3 * F.mse_loss(student, teacher)

    def rest(self) -> torch.Tensor:
        z, _, t = self.h.noised(self.batch.latents, 50, 950)
        return self.pulled(z, t, self.predict("teacher", z, t, self.h.rest(self.batch.concepts, self.batch.templates)))

    def own_path(self) -> torch.Tensor:
        z, t = self.h.sampled(self.c, "teacher", 3.0, 2, 50, 950)
        return self.pulled(z, t, self.predict("teacher", z, t, self.null))

    def snr(self) -> torch.Tensor:
        z, _, t = self.h.noised(self.batch.latents, 0, 999)
        level = torch.logit(self.h.noise_scheduler.alphas_cumprod.double())
        w = torch.gradient(level)[0].abs().clamp(max=0.05)
        error = self.predict("student", z, t, self.c) - self.predict("teacher", z, t, self.null)
        return ((w / w.mean())[t].float()[:, None, None, None] * error.square()).mean()

    def sds(self) -> torch.Tensor:
        """The bound's gradient in x0, <eps_theta(x_s, c) - eps*(x_s, null)>, handed to the prediction that x0 is of."""
        z, _, t = self.h.noised(self.batch.latents, 50, 950)
        predicted = self.predict("student", z, t, self.c)
        alpha = self.h.noise_scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        x0 = (z - (1 - alpha).sqrt() * predicted.detach()) / alpha.sqrt()
        x_s, _, s = self.h.noised(x0, 50, 950)
        gap = (self.predict("student", x_s, s, self.c) - self.predict("teacher", x_s, s, self.null)).detach()
        slope = 2 * (gap * predicted).mean()
        return gap.square().mean() + slope - slope.detach()


@pytest.mark.parametrize(
    ("name", "settings", "by_hand"),
    [
        ("esd-x", {}, Hand.esd),
        ("sdd", {}, Hand.sdd),
        ("mimmu", {}, Hand.mimmu),
        ("mimmu-retain", {"gamma": 3.0}, Hand.mimmu_retain),
        ("mimmu", {"target": "rest"}, Hand.rest),
        ("mimmu", {"x_source": "teacher"}, Hand.own_path),
        ("mimmu", {"weighting": "snr", "t_min": 0, "t_max": 999}, Hand.snr),
        ("mimmu", {"objective": "sds"}, Hand.sds),
    ],
)
def test_loss_and_gradients_are_those_of_the_formula_on_separate_networks(
    name: str, settings: dict[str, object], by_hand: Callable[[Hand], torch.Tensor], networks: Networks
) -> None:
    harness = networks.harness
    batch = next(harness.forget_batches(4))
    drawn = harness.generator.get_state()
    loss = small(name, **settings).loss(harness, batch)
    loss.backward()
    harness.generator.set_state(drawn)
    expected = by_hand(Hand(networks, batch))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    theirs = {n: p.grad for n, p in networks.student.named_parameters()}
    for parameter, own in harness.trained.items():
        assert own.grad is not None
        assert torch.allclose(own.grad, theirs[parameter], rtol=1e-3, atol=1e-5 * own.grad.abs().max().item())
        assert own.grad.any()


class TestFamily:
    @pytest.fixture
    def ready(self, networks: Networks) -> Harness:
        return networks.harness

    def test_the_target_is_the_formula(self, ready: Harness) -> None:
        batch = next(ready.forget_batches(4))
        z, _, t = ready.noised(batch.latents)
        c, null = batch.prompt_embeds, ready.null(4)
        a = ready.anchors([ready.task.in_domain[0]] * 4, batch.templates)
        teacher = {key: ready.teacher(z, t, value) for key, value in {"a": a, "c": c, "null": null}.items()}
        student = ready.student(z, t, a).detach()

        assert torch.equal(erasure_target(ready, z, t, c, a), teacher["a"])
        assert torch.equal(erasure_target(ready, z, t, c, a, anchor="student"), student)
        assert not torch.allclose(student, teacher["a"])
        # ESD: eps*(null) - (eps*(c) - eps*(null)) = 2 eps*(null) - eps*(c)
        esd = erasure_target(ready, z, t, c, null, eta=1.0)
        assert torch.allclose(esd, 2 * teacher["null"] - teacher["c"], atol=1e-6)
        assert torch.allclose(esd, erasure_target(ready, z, t, c, eta=1.0), atol=1e-6)
        # SPM-like: another anchor, and half a step away from the concept
        away = erasure_target(ready, z, t, c, a, eta=0.5)
        assert torch.allclose(away, teacher["a"] - 0.5 * (teacher["c"] - teacher["null"]), atol=1e-6)

    def test_without_an_anchor_no_prediction_is_made_twice(self, ready: Harness) -> None:
        batch = next(ready.forget_batches(2))
        z, _, t = ready.noised(batch.latents)
        erasure_target(ready, z, t, batch.prompt_embeds, eta=1.0)
        assert ready.meter.teacher_forwards == 2

    def test_the_target_has_no_gradient(self, ready: Harness) -> None:
        batch = next(ready.forget_batches(2))
        z, _, t = ready.noised(batch.latents)
        for anchor in ("teacher", "student", "average"):
            target = erasure_target(ready, z, t, batch.prompt_embeds, ready.null(2), eta=1.0, anchor=anchor)
            assert not target.requires_grad

    def test_an_unknown_anchor_is_refused(self, ready: Harness) -> None:
        z = torch.zeros(1, 4, 16, 16)
        with pytest.raises(ValueError, match="unknown network 'ema'"):
            erasure_target(ready, z, torch.tensor([1]), ready.null(1), ready.null(1), anchor="ema")
