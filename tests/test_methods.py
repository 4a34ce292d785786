"""One contract for every registered method, then what is particular to each."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bench.backbone import Backbone
from bench.config import Protocol
from bench.forget_set import LatentSet
from bench.harness import Batch, Harness
from bench.sampler import Shot, sample
from bench.stages import modules_of
from bench.suites import Task
from bench.unlearning import Outcome, unlearn
from bench.worlds import World
from methods import METHODS, Method
from methods.base import PARAMETERS, MethodConfig
from methods.family import erasure_target
from methods.salun import saliency_mask

Run = Callable[..., Outcome]


@pytest.fixture
def harness(world: World, model: Backbone) -> Callable[[int], Harness]:
    names = world.concepts[:4]
    task = Task("t", names[:1], names[1:3], names[3:])
    generator = torch.Generator().manual_seed(5)
    examples = LatentSet(torch.randn(8, *model.latent_shape, generator=generator), names[:1] * 8, (0, 1) * 4)
    kept = LatentSet(torch.randn(6, *model.latent_shape, generator=generator), names[1:] * 2, (0,) * 6)
    prompts = {name: world.prompts("forget", name) for name in names}
    rest = {names[0]: tuple(prompt.replace(names[0], "dog") for prompt in prompts[names[0]])}
    return lambda seed: Harness(model, task, examples, lambda: kept, prompts, seed, rest=rest)


def small(name: str, **settings: object) -> Method:
    cls = METHODS.get(name)
    values = {"lr": 1e-3, "epochs": 1, "steps": None, "batch_size": 4, "path_steps": 2}
    known = {field.name for field in dataclasses.fields(cls.Config)}
    return cls(dataclasses.replace(cls.Config(), **{k: v for k, v in values.items() if k in known} | settings))


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
        ("mimmu", {"weighting": "snr", "timesteps": (0, 999)}, Hand.snr),
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


@pytest.mark.parametrize("name", METHODS.names())
class TestContract:
    def test_it_says_what_it_is(self, name: str) -> None:
        cls = METHODS.get(name)
        assert issubclass(cls, Method)
        assert cls.__doc__
        assert cls.about
        assert cls.source
        assert cls.fidelity in ("published", "reconstruction", "control")

    def test_its_config_is_frozen_and_knows_its_fields(self, name: str) -> None:
        cls = METHODS.get(name)
        config = cls.Config()
        assert cls(config).config is config
        with pytest.raises(TypeError):
            cls.Config(no_such_setting=1)  # type: ignore[call-arg]
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.lr = 1.0  # type: ignore[misc]
        with pytest.raises(TypeError, match="takes a"):
            cls({"lr": 1.0})  # type: ignore[arg-type]

    def test_the_same_seed_gives_the_same_weights(self, name: str, harness: Callable[[int], Harness]) -> None:
        first, again = (unlearn(harness(3), small(name)).delta for _ in range(2))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[key], again[key]) for key in first)

    def test_only_declared_parameters_move(self, name: str, harness: Callable[[int], Harness]) -> None:
        method = small(name)
        delta = unlearn(harness(0), method).delta
        assert all(method.trains(key) for key in delta)
        assert bool(delta) == (name != "pretrained")

    def test_the_result_is_a_pipeline(self, name: str, harness: Callable[[int], Harness], model: Backbone) -> None:
        delta = unlearn(harness(0), small(name)).delta
        with model.weights(delta):
            images = sample(model, [Shot("x", "a photo", 0)], Protocol(num_inference_steps=2), seed=0, batch_size=1)
        assert images.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", ["mimmu", "salun"])
def test_another_seed_gives_other_weights(name: str, harness: Callable[[int], Harness]) -> None:
    first, other = (unlearn(harness(seed), small(name)).delta for seed in (0, 1))
    assert any(not torch.equal(first[key], other[key]) for key in first)


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


class TestMimMu:
    @pytest.mark.parametrize(("objective", "student_forwards"), [("align", 1), ("sds", 2)])
    def test_the_prompt_comes_to_mean_what_the_null_prompt_meant(
        self, harness: Callable[[int], Harness], model: Backbone, world: World, objective: str, student_forwards: int
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
        assert outcome.ledger.compensation == "none"
        assert all(".attn2." in key for key in outcome.delta)
        assert outcome.cost["teacher_forwards"] == outcome.cost["steps"] == 40
        assert outcome.cost["student_forwards"] == student_forwards * 40

    def test_its_loss_is_zero_where_the_prompt_says_nothing(self, harness: Callable[[int], Harness]) -> None:
        workplace = harness(0)
        batch = next(workplace.forget_batches(4))
        method = small("mimmu")
        silent = dataclasses.replace(batch, prompt_embeds=workplace.null(4))
        assert method.loss(workplace, silent).item() < 1e-10 < method.loss(workplace, batch).item()

    @pytest.mark.parametrize("settings", [
        {"weighting": "logistic"},
        {"weighting": "snr", "x_source": "student"},
        {"objective": "sds", "weighting": "logistic", "parameters": "attn2-kv"},
    ])  # fmt: skip
    def test_its_switches_combine(self, harness: Callable[[int], Harness], settings: dict[str, str]) -> None:
        workplace = harness(0)
        outcome = unlearn(workplace, small("mimmu", **settings))
        assert outcome.delta
        assert all(PARAMETERS[settings.get("parameters", "attn2")](key) for key in outcome.delta)
        assert len(outcome.ledger.forget_images) == (0 if settings.get("x_source") else 8)
        assert outcome.ledger.compensation == "none"

    def test_prompts_without_the_concept_are_help(self, harness: Callable[[int], Harness], world: World) -> None:
        outcome = unlearn(harness(0), small("mimmu", target="rest"))
        name = world.concepts[0]
        assert outcome.ledger.anchor_prompts == {p.replace(name, "dog") for p in world.prompts("forget", name)[:2]}
        assert outcome.ledger.compensation == "anchor prompts"

    def test_a_world_that_cannot_leave_the_concept_out_is_refused(
        self, harness: Callable[[int], Harness], world: World, model: Backbone
    ) -> None:
        workplace = Harness(
            model, *(getattr(harness(0), n) for n in ("task", "_forget", "_make_retain", "_prompts")), 0
        )
        with pytest.raises(ValueError, match=f"no prompts that leave out '{world.concepts[0]}'"):
            unlearn(workplace, small("mimmu", target="rest"))

    @pytest.mark.parametrize("wrong", [
        {"weighting": "flat"}, {"x_source": "retain"}, {"objective": "kl"}, {"target": "sibling"},
        {"parameters": "text"}, {"weighting": "logistic", "x_source": "student"},
    ])  # fmt: skip
    def test_unknown_switches_are_refused(self, wrong: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong.values()))):
            small("mimmu", **wrong)


def test_compensation_is_in_the_ledger(harness: Callable[[int], Harness]) -> None:
    ledger = unlearn(harness(0), small("mimmu-retain")).ledger
    assert ledger.retain_images
    assert ledger.compensation == "retain images"


@pytest.mark.parametrize("name", ["esd-x", "esd-u", "sdd"])
def test_methods_that_learn_from_prompts_alone_use_no_image(name: str, harness: Callable[[int], Harness]) -> None:
    outcome = unlearn(harness(0), small(name))
    assert set(outcome.ledger.facts().values()) == {0}
    assert outcome.ledger.compensation == "none"


def test_sdd_leaves_the_moving_average(harness: Callable[[int], Harness]) -> None:
    workplace = harness(0)
    delta = unlearn(workplace, small("sdd", ema_decay=0.5)).delta
    assert delta
    assert all(torch.equal(delta[name], workplace.averaged[name]) for name in delta)


def test_the_variants_of_esd_share_no_weight(model: Backbone) -> None:
    x, u = ({n for n, _ in model.unet.named_parameters() if small(v).trains(n)} for v in ("esd-x", "esd-u"))
    assert x
    assert not x & u
    left = {n.partition(".")[0] for n, _ in model.unet.named_parameters() if n not in x | u}
    assert left == {"time_embedding", "conv_norm_out", "conv_out"}


def test_a_method_depends_on_all_that_its_modules_use() -> None:
    names = {module.__name__ for module in modules_of(METHODS.get("mimmu-retain"))}
    assert names == {f"methods.{n}" for n in ("base", "family", "mimmu", "mimmu_retain", "noise_levels")}


class TestSalUn:
    def test_the_mask_keeps_the_largest_gradients_of_all_weights(self) -> None:
        gradients = {"a": torch.tensor([[0.1, -5.0], [0.2, 0.3]]), "b": torch.tensor([4.0, -0.05])}
        mask = saliency_mask(gradients, 0.5)
        assert mask["a"].tolist() == [[False, True], [False, True]]
        assert mask["b"].tolist() == [True, False]
        assert not any(m.any() for m in saliency_mask(gradients, 0.0).values())
        assert all(m.all() for m in saliency_mask(gradients, 1.0).values())

    def test_weights_outside_the_mask_stay(self, harness: Callable[[int], Harness]) -> None:
        method, workplace = small("salun", mask_fraction=0.2), harness(0)
        delta = unlearn(workplace, method).delta
        moved = {key: delta[key] != workplace.frozen[key] for key in delta}
        mask = method.mask  # type: ignore[attr-defined]
        assert not any((moved[key] & ~mask[key]).any() for key in moved)
        share = sum(m.sum().item() for m in mask.values()) / sum(m.numel() for m in mask.values())
        assert share == pytest.approx(0.2, abs=1e-3)
        assert sum(m.sum().item() for m in moved.values()) > 0.9 * sum(m.sum().item() for m in mask.values())

    def test_it_relabels_within_the_domain_and_uses_retained_images(
        self, harness: Callable[[int], Harness], world: World
    ) -> None:
        workplace = harness(0)
        ledger = unlearn(workplace, small("salun", epochs=2)).ledger
        allowed = {p for name in workplace.task.in_domain for p in world.prompts("forget", name)}
        assert ledger.anchor_prompts
        assert ledger.anchor_prompts <= allowed
        assert ledger.retain_images == set(range(6))
        assert ledger.compensation == "retain images + anchor prompts"


def test_controls_do_what_they_say(harness: Callable[[int], Harness], model: Backbone) -> None:
    assert unlearn(harness(0), small("pretrained")).delta == {}
    delta = unlearn(harness(0), small("wrecked")).delta
    z = torch.randn(2, *model.latent_shape)
    with model.weights(delta), torch.no_grad():
        assert not model.unet(z, 500, encoder_hidden_states=model.embed(["a photo", ""])).sample.any()


def test_parameter_groups_are_where_stable_diffusion_has_them(model: Backbone) -> None:
    names = [name for name, _ in model.unet.named_parameters()]
    groups = {group: {n for n in names if chosen(n)} for group, chosen in PARAMETERS.items()}
    blocks = {n.partition(".attn2.")[0] for n in names if ".attn2." in n}
    assert len(groups["attn2-kv"]) == 2 * len(blocks) > 0
    assert groups["attn2-kv"] < groups["attn2"] < groups["unet"] == set(names)
    with pytest.raises(ValueError, match="unknown parameters"):
        MethodConfig(parameters="attn3")
