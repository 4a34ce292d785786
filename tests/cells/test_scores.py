"""What a metric may return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.cells import scores
from metrics import Metric, Score


def returning(value: Any) -> Metric:
    return Metric("mine", "a test", "", True, 0, 1, "a test", lambda evidence: value)


@pytest.mark.parametrize(
    "value", [0.5, 0.0, False, torch.tensor(0.5), (0.5, 3), Score(torch.tensor(0.5), 3), Score("1", 3), Score(0.5, 2.5)]
)
def test_what_is_no_score_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"metric 'mine' returned .*; it must return a Score of a number"):
        scores._score(returning(value), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, -3])
def test_score_of_no_image_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"metric 'mine' returned .*, of {count} images"):
        scores._score(returning(Score(0.5, count)), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [Score(0.5, 3), Score(np.float32(0.5), np.int64(3)), None])
def test_scores_and_none_are_taken(value: Any) -> None:
    assert scores._score(returning(value), None) is value  # type: ignore[arg-type]
