import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.board import statistics
from bench.board.statistics import clusters, difference, first, harmonic, interval, ranks
from benchmarks import coverage as sim


@pytest.mark.parametrize("draw", [sim.tasks_differ, sim.seeds_differ, sim.only_images_differ])
@pytest.mark.parametrize(("tasks", "seeds"), [(9, 1), (9, 3), (5, 1), (3, 2)])
def test_a_95_percent_interval_covers_the_truth_19_times_in_20(draw: sim.Draw, tasks: int, seeds: int) -> None:
    """On accuracies of 12 images, whatever level the spread comes from."""
    assert 0.93 <= sim.coverage(draw, 0.6, tasks, seeds) <= 0.97


def test_seeds_of_a_task_are_no_clusters_of_their_own() -> None:
    """Taking (task, seed) pairs for independent claims far too much where tasks differ: why tasks are the clusters."""
    assert sim.coverage(sim.tasks_differ, 0.6, 9, 3, lambda values: values.reshape(-1, 1)) < 0.9


def test_seeds_of_one_task_are_clusters() -> None:
    assert 0.93 <= sim.coverage(sim.seeds_differ, 0.6, 1, 6) <= 0.97


def test_it_is_the_spread_of_resampled_means() -> None:
    sample = np.random.default_rng(1).normal(50, 10, size=(40, 1))
    found = interval(sample)
    half = 2.0227 * sample.std(ddof=1) / math.sqrt(40)  # the t interval with 39 degrees of freedom
    assert found.mean == pytest.approx(sample.mean())
    assert found.low == pytest.approx(found.mean - half, abs=0.2)
    assert found.high == pytest.approx(found.mean + half, abs=0.2)


def test_agreement_leaves_no_width_and_one_cluster_no_interval() -> None:
    same = interval(np.full((3, 1), 80.0))
    assert (same.mean, same.low, same.high) == (80.0, 80.0, 80.0)
    alone = interval(np.array([[70.0]]))
    assert alone.mean == 70.0
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_tasks_are_clusters_and_seeds_where_there_is_one_task() -> None:
    assert clusters({("a", 0): (0.0,), ("a", 1): (50.0,), ("b", 0): (100.0,), ("b", 1): (80.0,)}).tolist() == [
        [25],
        [90],
    ]
    assert clusters({("a", 0): (0.0, 1.0), ("a", 1): (50.0, 2.0)}).tolist() == [[0, 1], [50, 2]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({}, "same number of seeds"),
        ({("a", 0): (1.0,), ("a", 1): (1.0,), ("b", 0): (1.0,)}, "same number of seeds"),
        ({("a", 0): (1.0,), ("b", 0): (1.0, 2.0)}, "same quantities"),
        ({("a", 0): (1.0,), ("b", 0): (math.nan,)}, "no NaN"),
    ],
)
def test_gaps_are_errors(cells: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clusters(cells)


tables = arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(0, 100))


@given(tables)
def test_an_interval_holds_its_value_and_keeps_within_the_possible(table: np.ndarray) -> None:
    found = interval(table, harmonic, 0, 100)
    assert found.mean == pytest.approx(harmonic(table.mean(0)))
    if len(table) > 1:
        assert 0 <= found.low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.high <= 100 + 1e-9


@given(tables, st.randoms())
def test_neither_the_order_of_cells_nor_a_second_look_changes_anything(table: np.ndarray, random) -> None:
    cells = {(f"t{i}", 0): tuple(row) for i, row in enumerate(table)}
    shuffled = list(cells.items())
    random.shuffle(shuffled)
    assert repr(interval(clusters(cells))) == repr(interval(clusters(dict(shuffled))))


def test_the_harmonic_mean_is_that_of_the_row() -> None:
    assert harmonic(np.array([50.0, 100.0, 100.0])) == pytest.approx(75.0)
    assert harmonic(np.array([[0.0, 100.0], [40.0, 40.0]])).tolist() == pytest.approx([0.0, 40.0])


def test_pairing_finds_what_two_intervals_cannot() -> None:
    """Tasks differ by far more than the methods do, but on every task one is a little better."""
    hard = np.array([[10.0], [50.0], [90.0], [30.0], [70.0]])
    better = hard + np.array([[3.0], [4.0], [3.5], [5.0], [4.5]])
    assert interval(hard).high > interval(better).low
    found = difference(better, hard)
    assert found.mean == pytest.approx(4.0)
    assert 2 < found.low < 4 < found.high < 6
    assert ranks({"hard": hard, "better": better}) == {"hard": 2, "better": 1}
    with pytest.raises(ValueError, match="same clusters"):
        difference(better, hard[:3])


def test_what_chance_may_have_made_shares_a_rank() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(60, 10, (9, 1))
    noisy = {name: base + rng.normal(0, 3, (9, 1)) for name in "abc"}
    assert set(ranks(noisy).values()) == {1}
    assert ranks({**noisy, "far": base - 30}) == {"a": 1, "b": 1, "c": 1, "far": 4}
    assert ranks({}) == {}


@given(
    st.lists(tables.filter(lambda t: t.shape == (4, 1)) | arrays(float, (4, 1), elements=st.floats(0, 9)), max_size=5)
)
def test_those_of_one_rank_do_not_separate(found: list[np.ndarray]) -> None:
    named = {str(i): table for i, table in enumerate(found)}
    rank = ranks(named)
    for a in named:
        for b in named:
            if difference(named[a], named[b], first).low > 0:
                assert rank[a] < rank[b]


def test_a_statistic_that_resamples_seldom_have_has_no_interval() -> None:
    def mostly(means: np.ndarray) -> np.ndarray:
        return np.where(means[..., 0] >= 50, means[..., 0], np.nan)

    assert math.isnan(interval(np.array([[20.0], [90.0]]), mostly).low)
    assert not math.isnan(interval(np.array([[80.0], [90.0]]), mostly).low)
    assert math.isnan(interval(np.array([[20.0], [30.0]]), mostly).mean)
    assert statistics.MISSING == 0.05
