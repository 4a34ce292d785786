import dataclasses
import math

import pytest
import torch
from support.exhibits import ALL, evidence, whole

from metrics import METRICS, Evidence
from metrics.base import MissingEvidence

GOLDEN = {"a": "abda", "b": "bbbb", "c": "cbca", "d": "dddx"}


def value(given: Evidence) -> float:
    found = METRICS.get("fid").compute(given)
    assert found is not None
    return found.value


def test_fid_equals_distance_computed_by_hand() -> None:
    # One dimension: drawn {0, 2, 4, 6, ...}; |mu1 - mu2|^2 + (s1 - s2)^2
    base = evidence({c: c * 2 for c in ALL})
    drawn = torch.tensor([[99.0, 99.0], [99.0, 99.0], [0, 0], [2, 0], [0, 1], [2, 1], [1, 0], [1, 1]])
    real = drawn[2:] * torch.tensor([3.0, 1.0]) + torch.tensor([5.0, 0.0])
    reference = {"b": real[:2], "c": real[2:4], "d": real[4:], "a": torch.zeros(2, 2)}
    given = dataclasses.replace(base, features=drawn, reference=reference, extractor="x")
    # first axis: means 1 and 8, variances 4/5 and 36/5; the axes are uncorrelated, the second is the same in both
    expected = 7.0**2 + (math.sqrt(36 / 5) - math.sqrt(4 / 5)) ** 2
    assert value(given) == pytest.approx(expected, rel=1e-6)


def test_fid_of_equal_sets_is_zero() -> None:
    base = whole({c: c * 4 for c in ALL}, seed=3)
    own = {c: base.features[[a == c for a in base.requested]] for c in ALL}
    assert value(dataclasses.replace(base, reference=own)) == pytest.approx(0, abs=1e-6)


def test_fid_grows_with_distance_of_features() -> None:
    base = whole(GOLDEN, seed=5)
    scores = [value(dataclasses.replace(base, features=base.features + shift)) for shift in (0, 1, 3)]
    assert scores[0] < scores[1] < scores[2]


def test_fid_without_all_reference_images_raises() -> None:
    base = whole(GOLDEN, seed=6)
    with pytest.raises(MissingEvidence, match="no reference images of d"):
        value(dataclasses.replace(base, reference={c: base.reference[c] for c in ("a", "b", "c")}))
    with pytest.raises(MissingEvidence, match="16 images were requested, but 3 have features"):
        value(dataclasses.replace(base, features=base.features[:3]))
