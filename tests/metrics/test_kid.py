import dataclasses

import numpy as np
import pytest
import torch
from support.exhibits import ALL, evidence, whole

from metrics import METRICS, Evidence


def value(given: Evidence) -> float:
    found = METRICS.get("kid").compute(given)
    assert found is not None
    return found.value


def test_kid_equals_discrepancy_computed_by_hand() -> None:
    # D = 1, k(x, y) = (xy + 1)^3; drawn {0, 1, 1}, real {0, 0, 1}: as many, so every subset is the whole of both
    base = evidence({c: c for c in ALL})
    reference = {"b": torch.tensor([[0.0]]), "c": torch.tensor([[0.0]]), "d": torch.tensor([[1.0]])}
    given = dataclasses.replace(base, features=torch.tensor([[9.0], [0.0], [1.0], [1.0]]), reference=reference)
    drawn = (1 + 1 + 8) / 3  # pairs (0,1), (0,1), (1,1)
    real = (1 + 1 + 1) / 3
    across = (7 * 1 + 2 * 8) / 9  # 1 unless both are 1
    assert value(given) == pytest.approx(drawn + real - 2 * across)


def test_kid_approaches_unbiased_discrepancy_of_all_images() -> None:
    """Where real pictures are many, each subset holds every drawn image, and the mean nears the full estimate."""
    base = whole({c: c * 4 for c in ALL}, seed=2)
    drawn = base.features[4:].double().numpy()
    real = np.concatenate([base.reference[c] for c in "bcd"]).astype(float)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 3 + 1) ** 3

    def apart(k: np.ndarray) -> float:
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    full = apart(kernel(drawn, drawn)) + apart(kernel(real, real)) - 2 * kernel(drawn, real).mean()
    assert value(base) == pytest.approx(full, abs=0.06)  # 100 halves of 24 real pictures
    assert abs(full) > 0.2


def test_kid_grows_with_distance_of_features() -> None:
    base = whole({c: c * 4 for c in ALL}, seed=5)
    scores = [value(dataclasses.replace(base, features=base.features + shift)) for shift in (0, 1, 3)]
    assert scores[0] < scores[1] < scores[2]


def test_kid_of_one_image_is_blank() -> None:
    base = dataclasses.replace(whole({c: c for c in ALL}), in_domain=("b",), out_of_domain=())
    assert METRICS.get("kid").compute(base) is None
