import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.board import ripple


def table(lost: dict[str, dict[float, float]], task: str = "x", seed: int = 0) -> pd.DataFrame:
    """Concepts of one task: method -> distance -> points of accuracy lost, from 100."""
    rows = [
        {
            "method": method, "task": task, "seed": seed, "concept": f"at {distance}", "n": 12,
            "role": "forget" if distance == 0 else "in_domain", "distance_text": distance, "accuracy": 100.0 - drop,
        }
        for method, each in lost.items()
        for distance, drop in each.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


EVEN = {0.0: 0.0, 0.1: 0.0, 0.5: 0.0, 0.9: 0.0}


def test_a_drop_is_from_pretrained_on_the_same_concept_and_the_forgotten_one_has_none() -> None:
    before = EVEN | {0.5: 20.0}
    dropped = ripple.drops(table({"pretrained": before, "a": {0.0: 100.0, 0.1: 30.0, 0.5: 25.0, 0.9: 0.0}}))
    own = dropped[dropped["method"] == "a"]
    assert own["drop"].tolist() == [30, 5, 0]
    assert (dropped[dropped["method"] == "pretrained"]["drop"] == 0).all()


def test_without_pretrained_there_are_no_drops() -> None:
    assert ripple.drops(table({"a": EVEN})).empty
    both = pd.concat([table({"pretrained": EVEN, "a": EVEN}), table({"a": EVEN}, seed=1)])
    assert set(ripple.drops(both)["seed"]) == {0}


@given(st.floats(-50, 50), st.floats(0, 30))
def test_the_ripple_is_the_slope_for_each_tenth_nearer(slope: float, level: float) -> None:
    lost = {d: level - slope * d for d in EVEN}
    dropped = ripple.drops(table({"pretrained": EVEN, "a": lost}))
    found = ripple.ripple(dropped[dropped["method"] == "a"], "text")
    assert found == {("x", 0): pytest.approx(slope / 10, abs=1e-9)}


def test_two_concepts_or_one_distance_make_no_slope() -> None:
    few = ripple.drops(table({"pretrained": {0.1: 0.0, 0.2: 0.0}}))
    assert ripple.ripple(few, "text") == {}
    same = pd.concat([few.assign(distance_text=0.3), few.assign(distance_text=0.3)])
    assert ripple.ripple(same, "text") == {}
    assert ripple.ripple(few.assign(distance_text=None), "text") == {}


def test_the_profile_goes_from_near_to_far_in_bins_of_the_same_size() -> None:
    lost = {i / 32: 100 * (1 - i / 32) for i in range(1, 33)}
    tasks = [table({"pretrained": dict.fromkeys(lost, 0.0), "a": lost}, task=str(t)) for t in range(3)]
    dropped = ripple.drops(pd.concat(tasks))
    found = ripple.profile(dropped, "text", ["a"])
    assert len(found) == ripple.BINS
    assert found["distance"].is_monotonic_increasing
    assert found["drop"].is_monotonic_decreasing
    assert found["n"].tolist() == [12 * 3 * 4] * ripple.BINS
    assert found["drop_lo"].tolist() == pytest.approx(found["drop"].tolist())  # the tasks agree
    assert found["drop"].mean() == pytest.approx(dropped[dropped["method"] == "a"]["drop"].mean())
    assert ripple.distances(dropped) == ["text"]


def test_methods_share_the_bins_and_an_unknown_distance_is_left_out() -> None:
    lost = {i / 10: 0.0 for i in range(1, 10)}
    frame = table({"pretrained": lost, "a": lost, "b": lost}).assign(distance_look=None)
    dropped = ripple.drops(frame)
    found = ripple.profile(dropped, "text", ["a", "b"]).groupby("method")["distance"].apply(list)
    assert found["a"] == found["b"]
    assert ripple.profile(dropped, "look", ["a"]).empty
