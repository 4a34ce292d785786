import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.interval import clustered_interval


def test_one_value_has_no_interval() -> None:
    mean, low, high = clustered_interval([[70.0]])
    assert mean == 70.0
    assert math.isnan(low)
    assert math.isnan(high)


def test_agreement_leaves_no_width() -> None:
    assert clustered_interval([[80.0], [80.0], [80.0]]) == (80.0, 80.0, 80.0)


def test_it_is_the_spread_of_resampled_means() -> None:
    # Two tasks, 0 and 100: the resampled mean is 0, 50 or 100 with probability 1/4, 1/2, 1/4
    assert clustered_interval([[0.0], [100.0]]) == (50.0, 0.0, 100.0)
    sample = np.random.default_rng(1).normal(50, 10, size=40)
    mean, low, high = clustered_interval([[v] for v in sample])
    half = 1.96 * sample.std() / math.sqrt(len(sample))
    assert low == pytest.approx(mean - half, abs=0.4)
    assert high == pytest.approx(mean + half, abs=0.4)


def test_seeds_of_a_task_do_not_count_as_tasks() -> None:
    """Ten seeds that agree within each of two tasks say no more about other tasks than one seed each."""
    assert clustered_interval([[0.0] * 10, [100.0] * 10]) == clustered_interval([[0.0], [100.0]])


def test_seeds_add_their_own_spread() -> None:
    _, low, high = clustered_interval([[20.0, 80.0], [20.0, 80.0], [20.0, 80.0]])
    assert high - low > 20


@given(arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(0, 100)))
def test_the_interval_stays_within_the_data(values: np.ndarray) -> None:
    mean, low, high = clustered_interval(values.tolist())
    assert mean == pytest.approx(values.mean())
    if values.size > 1:
        assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([], "same number of seeds"),
        ([[1.0], []], "same number of seeds"),
        ([[1.0, 2.0], [1.0]], "same number of seeds"),
        ([[]], "at least one value"),
        ([[1.0], [float("nan")]], "no NaN"),
    ],
)
def test_gaps_are_errors(clusters: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clustered_interval(clusters)
