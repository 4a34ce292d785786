"""UCE, RECE and SPEED against what they minimise: the minimum has no gradient, and the constraints hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.workplace import small

from bench.backbones.pipeline import Backbone
from bench.training.harness import Harness
from bench.training.subject_tokens import last_subject_token
from methods import Method
from methods.rece import Rece
from methods.speed import Speed
from methods.uce import Uce

Make = Callable[[int], Harness]


def states(model: Backbone, prompts: list[str], name: str, every: bool) -> torch.Tensor:
    """The states of all tokens of the prompts, or of the last token of prompts that end with `name`."""
    tokenizer = model.pipeline.tokenizer
    words = tokenizer(prompts, padding="max_length", max_length=20, return_tensors="pt")
    with torch.no_grad():
        encoded = model.pipeline.text_encoder(words.input_ids)[0]
    if every:
        return encoded.flatten(0, 1)
    ends = [next(i for i, token in enumerate(row) if token == tokenizer.eos_token_id) for row in words.input_ids]
    assert all(prompt.endswith(name) for prompt in prompts)
    return torch.stack([row[end - 1] for row, end in zip(encoded, ends, strict=True)])


@pytest.fixture
def place(harness: Make) -> Harness:
    """A harness whose prompts end with the concept's name."""
    made = harness(0)
    made._prompts = {name: (f"a photo of a {name}", name) for name in made.task.concepts}
    return made


def edited(place: Harness, method: Method) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Parameter -> its value before and after the edit, float64."""
    with place.trainable(method.trains):
        method.edit(place)
        return {n: (place.teacher_weights[n].double(), p.detach().double()) for n, p in place.trained.items()}


def of(model: Backbone, names: tuple[str, ...], every: bool = False) -> list[torch.Tensor]:
    """The states of the prompts of each concept, float64."""
    return [states(model, [f"a photo of a {name}", name], name, every).double() for name in names]


def null(model: Backbone) -> torch.Tensor:
    return states(model, [""], "", every=True).double()


def slope(objective: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """The gradient of an objective, relative to its gradient at `start`."""
    gradients = []
    for point in (at, start):
        leaf = point.clone().requires_grad_(True)
        objective(leaf).backward()
        gradients.append(leaf.grad)
    return gradients[0] / gradients[1].norm()  # type: ignore[union-attr]


@pytest.mark.parametrize("tokens", ["last", "all"])
def test_uce_is_the_minimum_of_its_objective(place: Harness, model: Backbone, tokens: str) -> None:
    method, task, every = small("uce", tokens=tokens, erase_scale=2.0, preserve_scale=0.5), place.task, tokens == "all"
    (c,), kept = of(model, task.forget, every), of(model, task.in_domain + task.out_of_domain, every)
    g = null(model).repeat(2, 1) if every else null(model)[:1].expand_as(c)
    changed = edited(place, method)
    assert len(changed) == 2 * sum(name.endswith("attn2") for name, _ in model.unet.named_modules())
    for name, (before, after) in changed.items():
        assert name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))

        def objective(w: torch.Tensor, before: torch.Tensor = before) -> torch.Tensor:
            forget = 2.0 * ((c @ w.T - g @ before.T) ** 2).sum() / 2  # two prompts
            keep = sum(0.5 * ((p @ (w - before).T) ** 2).sum() / 2 for p in kept)
            return forget + keep + 0.5 * ((w - before) ** 2).sum()

        assert slope(objective, after, before).abs().max() < 1e-4
        assert (after - before).norm() > 1e-2 * before.norm()
    assert place.data_use.compensation == "anchor prompts"


def test_uce_without_weight_on_the_concept_or_on_others(place: Harness) -> None:
    for before, after in edited(place, small("uce", erase_scale=0.0)).values():
        assert torch.allclose(before, after, atol=1e-5)
    place.data_use.anchor_prompts.clear()
    edited(place, small("uce", preserve_scale=0.0))
    assert place.data_use.compensation == "none"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("uce", {"lamb": 0.0}, "lamb must be more than 0"),
        ("uce", {"erase_scale": -1.0}, "must be at least 0"),
        ("uce", {"tokens": "first"}, "unknown tokens 'first'; known: last, all"),
        ("rece", {"rounds": -1}, "rounds must be at least 0"),
        ("rece", {"embedding_penalty": 0.0}, "must be more than 0"),
        ("speed", {"rho": 0.0}, "rho must be more than 0"),
        ("speed", {"matrices": "q"}, "unknown matrices 'q'; known: v, kv"),
        ("speed", {"centres": 0}, "centres at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(name, **settings)


def test_rece_erases_the_embedding_that_comes_closest_to_the_concept(place: Harness, model: Backbone) -> None:
    method, once = small("rece", rounds=2), small("uce")
    assert isinstance(method, Rece)
    (c,) = of(model, place.task.forget)
    with place.trainable(method.trains):
        once.edit(place)
        first = {n: p.detach().clone() for n, p in place.trained.items()}
        found = method.adversarial(place, place.subject_states(place.task.forget)).flatten(0, 2).double()

        def distance(e: torch.Tensor) -> torch.Tensor:
            pairs = [(p.detach().double(), place.teacher_weights[n].double()) for n, p in place.trained.items()]
            return sum(((e @ w.T - c @ w0.T) ** 2).sum() for w, w0 in pairs) + 1e-3 * (e**2).sum()  # type: ignore[return-value]

        assert slope(distance, found, c).abs().max() < 1e-3
        assert distance(found) < distance(c)
    unrounded = edited(place, small("rece", rounds=0))
    assert all(torch.equal(after.float(), first[n]) for n, (_, after) in unrounded.items())
    rounds = edited(place, method)
    assert any(not torch.equal(after.float(), first[n]) for n, (_, after) in rounds.items())


def test_an_unchanged_model_has_the_concept_itself_as_adversarial_embedding(place: Harness) -> None:
    method = small("rece", embedding_penalty=1e-9)
    assert isinstance(method, Rece)
    with place.trainable(method.trains):
        c = place.subject_states(place.task.forget)
        assert torch.allclose(method.adversarial(place, c), c, atol=1e-2 * float(c.abs().max()))


def test_speed_moves_nothing_that_is_retained_and_is_the_minimum_of_what_is_left(
    place: Harness, model: Backbone
) -> None:
    method = small("speed", matrices="kv", threshold=1e-2)
    assert isinstance(method, Speed)
    (e,), k = of(model, place.task.forget), null(model)
    a, seen = k[:1].expand_as(e), list[torch.Tensor]()
    projector, null_states = method.projector, method.null_states
    fixed: list[torch.Tensor] = []

    def noted(retained: torch.Tensor, width: int) -> torch.Tensor:
        seen.append(projector(retained, width))
        return seen[-1]

    def kept(harness: Harness, null: torch.Tensor) -> torch.Tensor:
        fixed.append(null_states(harness, null))
        return fixed[-1]

    method.projector, method.null_states = noted, kept  # type: ignore[method-assign]
    changed = edited(place, method)
    assert len(changed) == len(seen) > 0
    K = fixed[0].double()
    assert torch.allclose(K[:, 0], k[0], atol=1e-5)
    for P, (before, after) in zip([P.double() for P in seen], changed.values(), strict=True):
        X, size = after - before, (after - before).norm()
        assert 0 < torch.trace(P) < len(P)
        assert (X @ P - X).norm() < 1e-4 * size
        assert (X @ K).norm() < 1e-4 * size * K.norm()

        def objective(w: torch.Tensor, before: torch.Tensor = before) -> torch.Tensor:
            return ((e @ w.T - a @ before.T) ** 2).sum() / len(e) + ((w - before) ** 2).sum()

        feasible = P - P @ K @ torch.linalg.pinv(K.T @ P @ K, rtol=1e-9) @ K.T @ P  # X = X P and X K = 0
        assert (slope(objective, after, before) @ feasible).abs().max() < 1e-3


def test_speed_without_constraints_is_uce(place: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    speed, uce = small("speed", matrices="kv"), small("uce", preserve_scale=0.0, lamb=1.0)
    assert isinstance(speed, Speed)
    assert isinstance(uce, Uce)
    monkeypatch.setattr(speed, "projector", lambda retained, width: torch.eye(width))
    monkeypatch.setattr(speed, "null_states", lambda harness, null: torch.zeros(null.shape[1], 1))
    expected = edited(place, uce)
    for name, (_, after) in edited(place, speed).items():
        assert torch.allclose(after, expected[name][1], atol=1e-4)


def test_the_last_token_of_a_name_is_found_wherever_it_stands(model: Backbone) -> None:
    tokenizer = model.pipeline.tokenizer
    for prompt in ("a blue jay", "a blue jay on grass", "Blue Jay", "a blue jay beside a blue jay"):
        ids = tokenizer(prompt).input_ids
        found = last_subject_token(tokenizer, prompt, "blue jay")
        assert tokenizer.decode(ids[: found + 1]).strip().endswith("jay")
        assert "jay" not in tokenizer.decode(ids[found + 1 :])
    with pytest.raises(ValueError, match="'a dog' does not name its subject 'blue jay'"):
        last_subject_token(tokenizer, "a dog", "blue jay")
