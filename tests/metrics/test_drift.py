import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.exhibits import ALL, evidence, take, whole

from bench.cells.judges import Judges, classify
from bench.worlds import World
from metrics import METRICS, Evidence
from metrics.base import MissingEvidence

BOTH = ("drift", "drift_latent")


def value(name: str, given: Evidence) -> float:
    found = METRICS.get(name).compute(given)
    assert found is not None
    return found.value


def test_drift_equals_mean_computed_by_hand() -> None:
    base = evidence({c: c for c in ALL})
    before = dataclasses.replace(
        base, penultimate=torch.tensor([[1.0, 0], [1, 0], [3, 4], [0, 2]]), latents=torch.zeros(4, 1, 1, 2)
    )
    after = dataclasses.replace(
        base,
        penultimate=torch.tensor([[0.0, 1], [0, 5], [6, 8], [3, 4]]),  # cosines 0, 0, 1, 0.8
        latents=torch.tensor([[9.0, 9], [0, 0], [1, 1], [3, 4]]).reshape(4, 1, 1, 2),
        pretrained=before,
    )
    assert value("drift", after) == pytest.approx((1 + 0 + 0.2) / 3)
    assert value("drift_latent", after) == pytest.approx((0 + 1 + 12.5**0.5) / 3)


@given(st.integers(0, 99))
def test_drift_of_pretrained_model_is_zero(seed: int) -> None:
    base = whole({c: c * 3 for c in ALL}, seed)
    same = dataclasses.replace(base, pretrained=dataclasses.replace(base, pretrained=None))
    assert [value(name, same) for name in BOTH] == [0, 0]


@pytest.mark.parametrize("name", BOTH)
def test_drift_without_matching_pretrained_images_raises(name: str) -> None:
    base = whole({c: c * 3 for c in ALL})
    assert base.pretrained is not None
    shifted = dataclasses.replace(base, pretrained=take(base.pretrained, [*range(11, -1, -1)]))
    with pytest.raises(MissingEvidence, match="in the same order"):
        value(name, shifted)
    with pytest.raises(MissingEvidence, match="pretrained model's image for every prompt"):
        value(name, dataclasses.replace(base, pretrained=None))
    with pytest.raises(MissingEvidence, match="12 images were requested, but 11 were measured"):
        value(name, dataclasses.replace(base, penultimate=base.penultimate[1:], latents=base.latents[1:]))


def test_judge_features_are_input_of_last_layer(world: World, device: torch.device) -> None:
    judge = world.judge("species", device)
    logits, features = classify(judge, world.reference(world.concepts[0], 2))
    assert features.shape == (2, 192)
    assert torch.equal(judge.head(features), logits)


def test_judges_pad_features_of_narrower_judge(world: World, device: torch.device) -> None:
    judges = Judges(world, ("photo", world.concepts[0]), device)
    seen = {"penultimate.species": torch.ones(2, 3), "penultimate.style": torch.full((2, 2), 2.0)}
    rows = judges.penultimate((world.concepts[0], "photo"), seen, (0, 1))
    assert rows.tolist() == [[1, 1, 1], [2, 2, 0]]
