"""What is particular to each method; what all have in common is in test_contract.py."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.workplace import small

from bench.backbones.pipeline import Backbone
from bench.training.harness import Harness
from bench.training.unlearning import unlearn
from bench.worlds import World
from methods.base import PARAMETERS, MethodConfig
from methods.salun import saliency_mask


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


class TestSalUn:
    def test_the_mask_keeps_the_largest_gradients_of_all_weights(self) -> None:
        gradients = {"a": torch.tensor([[0.1, -5.0], [0.2, 0.3]]), "b": torch.tensor([4.0, -0.05])}
        mask = saliency_mask(gradients, 0.5)
        assert mask["a"].tolist() == [[False, True], [False, True]]
        assert mask["b"].tolist() == [True, False]
        assert not any(m.any() for m in saliency_mask(gradients, 0.0).values())
        assert all(m.all() for m in saliency_mask(gradients, 1.0).values())

    @pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
    def test_the_mask_is_that_of_sorting_all_weights(self, fraction: float) -> None:
        shapes = ((3, 4), (100, 30), (7,), (16, 8, 3, 3))
        gradients = {str(i): torch.randn(shape) * 10.0 ** (3 - 3 * i) for i, shape in enumerate(shapes)}
        gradients["3"] = gradients["3"].contiguous(memory_format=torch.channels_last)
        sizes = torch.cat([g.abs().flatten() for g in gradients.values()])
        kept = torch.zeros_like(sizes, dtype=torch.bool)
        kept[sizes.topk(round(fraction * len(sizes))).indices] = True
        parts = kept.split([g.numel() for g in gradients.values()])
        mask = saliency_mask(gradients, fraction)
        for (name, g), part in zip(gradients.items(), parts, strict=True):
            assert torch.equal(mask[name], part.view_as(g))

    def test_what_equals_the_smallest_that_passes_passes_too(self) -> None:
        mask = saliency_mask({"a": torch.tensor([0.5, 2.0, -1.0]), "b": torch.tensor([1.0, -1.0, 0.0])}, 0.5)
        assert mask["a"].tolist() == [False, True, True]
        assert mask["b"].tolist() == [True, True, False]

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
