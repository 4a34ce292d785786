"""SalUn: the saliency mask, and what the method uses."""

from collections.abc import Callable

import pytest
import torch
from support.workplace import small

from bench.cells.train import next_kept
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from methods.salun import SalUn, saliency_mask


def test_saliency_mask_keeps_the_largest_magnitudes_over_all_tensors() -> None:
    gradients = {"a": torch.tensor([[0.1, -5.0], [0.2, 0.3]]), "b": torch.tensor([4.0, -0.05])}
    mask = saliency_mask(gradients, 0.5)
    assert mask["a"].tolist() == [[False, True], [False, True]]
    assert mask["b"].tolist() == [True, False]
    assert not any(m.any() for m in saliency_mask(gradients, 0.0).values())
    assert all(m.all() for m in saliency_mask(gradients, 1.0).values())


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_saliency_mask_equals_sorting_all_magnitudes(fraction: float) -> None:
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


def test_saliency_mask_keeps_ties_with_the_threshold() -> None:
    mask = saliency_mask({"a": torch.tensor([0.5, 2.0, -1.0]), "b": torch.tensor([1.0, -1.0, 0.0])}, 0.5)
    assert mask["a"].tolist() == [False, True, True]
    assert mask["b"].tolist() == [True, True, False]


def test_salun_changes_only_weights_inside_the_mask(harness: Callable[[int], Harness]) -> None:
    method, workplace = small("salun", mask_fraction=0.2), harness(0)
    delta = unlearn(workplace, method).delta
    moved = {key: delta[key] != workplace.teacher_weights[key] for key in delta}
    mask = method.mask  # type: ignore[attr-defined]
    assert not any((moved[key] & ~mask[key]).any() for key in moved)
    share = sum(m.sum().item() for m in mask.values()) / sum(m.numel() for m in mask.values())
    assert share == pytest.approx(0.2, abs=1e-3)
    assert sum(m.sum().item() for m in moved.values()) > 0.9 * sum(m.sum().item() for m in mask.values())


def test_salun_relabels_within_the_domain_and_uses_retained_images(
    harness: Callable[[int], Harness], world: World
) -> None:
    workplace = harness(0)
    data_use = unlearn(workplace, small("salun", epochs=2)).data_use
    allowed = {p for name in workplace.task.in_domain for p in world.prompts("forget", name)}
    assert data_use.anchor_prompts
    assert data_use.anchor_prompts <= allowed
    assert data_use.retain_images == set(range(6))
    assert data_use.compensation == "retain images + anchor prompts"


def test_salun_relabels_with_the_next_concept_of_the_domain_if_asked(
    harness: Callable[[int], Harness], world: World
) -> None:
    method, place = small("salun", pseudo_label="next"), harness(0)
    assert isinstance(method, SalUn)
    (forgotten,) = place.task.forget
    place.next_sibling = {forgotten: place.task.in_domain[1]}
    assert {method.other_concept(place, forgotten) for _ in range(5)} == {place.task.in_domain[1]}
    with pytest.raises(ValueError, match="unknown pseudo_label 'last'; known: random, next"):
        small("salun", pseudo_label="last")


def test_the_next_concept_follows_in_the_order_of_the_domain_and_is_kept() -> None:
    domain = ("a", "b", "c", "d")
    assert next_kept("b", domain, ("a", "c", "d")) == "c"
    assert next_kept("b", domain, ("a", "d")) == "d"
    assert next_kept("d", domain, ("b", "c")) == "b"
    assert next_kept("d", domain, ("x", "y")) == "x"
