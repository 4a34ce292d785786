"""One contract for every registered method, then what is particular to each."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bench.backbone import Backbone
from bench.config import Protocol
from bench.forget_set import LatentSet
from bench.harness import Harness, Outcome
from bench.sampler import Shot, sample
from bench.suites import Task
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
    return lambda seed: Harness(model, task, examples, lambda: kept, prompts, seed)


def small(name: str, **settings: object) -> Method:
    cls = METHODS.get(name)
    values = {"lr": 1e-3, "epochs": 2, "batch_size": 4, **settings}
    return cls(dataclasses.replace(cls.Config(), **values))


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
        first, again = (harness(3).run(small(name)).delta for _ in range(2))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[key], again[key]) for key in first)

    def test_only_declared_parameters_move(self, name: str, harness: Callable[[int], Harness]) -> None:
        method = small(name)
        delta = harness(0).run(method).delta
        assert all(method.trains(key) for key in delta)
        assert bool(delta) == (name != "pretrained")

    def test_the_result_is_a_pipeline(self, name: str, harness: Callable[[int], Harness], model: Backbone) -> None:
        delta = harness(0).run(small(name)).delta
        with model.weights(delta):
            images = sample(model, [Shot("x", "a photo", 0)], Protocol(num_inference_steps=2), seed=0, batch_size=1)
        assert images.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", ["mimmu", "salun"])
def test_another_seed_gives_other_weights(name: str, harness: Callable[[int], Harness]) -> None:
    first, other = (harness(seed).run(small(name)).delta for seed in (0, 1))
    assert any(not torch.equal(first[key], other[key]) for key in first)


class TestFamily:
    @pytest.fixture
    def ready(self, harness: Callable[[int], Harness]) -> Harness:
        """A harness whose student has moved away from its teacher."""
        made = harness(0)
        made.trained = {n: p for n, p in made.unet.named_parameters() if ".attn2." in n}
        made.frozen = {n: p.detach().clone() for n, p in made.trained.items()}
        with torch.no_grad():
            for parameter in made.trained.values():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return made

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

    def test_the_target_has_no_gradient(self, ready: Harness) -> None:
        for parameter in ready.trained.values():
            parameter.requires_grad_(True)
        batch = next(ready.forget_batches(2))
        z, _, t = ready.noised(batch.latents)
        for anchor in ("teacher", "student"):
            target = erasure_target(ready, z, t, batch.prompt_embeds, ready.null(2), eta=1.0, anchor=anchor)
            assert not target.requires_grad

    def test_an_unknown_anchor_is_refused(self, ready: Harness) -> None:
        z = torch.zeros(1, 4, 16, 16)
        with pytest.raises(ValueError, match="unknown anchor network 'ema'"):
            erasure_target(ready, z, torch.tensor([1]), ready.null(1), ready.null(1), anchor="ema")


class TestMimMu:
    def test_the_prompt_comes_to_mean_what_the_null_prompt_meant(
        self, harness: Callable[[int], Harness], model: Backbone, world: World
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
        outcome = workplace.run(small("mimmu", epochs=20))
        with model.weights(outcome.delta):
            after = predict(concept)
        assert F.mse_loss(after, target) < 0.5 * F.mse_loss(before, target)
        assert outcome.ledger.compensation == "none"
        assert all(".attn2." in key for key in outcome.delta)
        assert outcome.cost["teacher_forwards"] == outcome.cost["student_forwards"] == outcome.cost["steps"]

    def test_its_loss_is_zero_where_the_prompt_says_nothing(self, harness: Callable[[int], Harness]) -> None:
        workplace = harness(0)
        batch = next(workplace.forget_batches(4))
        method = small("mimmu")
        silent = dataclasses.replace(batch, prompt_embeds=workplace.null(4))
        assert method.loss(workplace, silent).item() < 1e-10 < method.loss(workplace, batch).item()


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
        delta = workplace.run(method).delta
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
        ledger = workplace.run(small("salun")).ledger
        allowed = {p for name in workplace.task.in_domain for p in world.prompts("forget", name)}
        assert ledger.anchor_prompts
        assert ledger.anchor_prompts <= allowed
        assert ledger.retain_images == set(range(6))
        assert ledger.compensation == "retain images + anchor prompts"


def test_controls_do_what_they_say(harness: Callable[[int], Harness], model: Backbone) -> None:
    assert harness(0).run(small("pretrained")).delta == {}
    delta = harness(0).run(small("wrecked")).delta
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
