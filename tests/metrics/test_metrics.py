"""What holds of every metric, by hypothesis; and the accuracies by hand."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exhibits import ALL, evidence, take, whole

from metrics import METRICS, Evidence
from metrics.base import MissingEvidence, Score

NAMES = tuple(n for n in METRICS.names() if not n.startswith("uc_"))  # these: test_unlearncanvas.py
CONCERNS = {  # the concepts whose images a metric looks at
    "ua": "a",
    "nra": "bc",
    "ora": "d",
    "fid": "bcd",
    "kid": "bcd",
    "clip": "bcd",
    "drift": "bcd",
    "drift_latent": "bcd",
    "plausible": "a",
    "plausible_domain": "a",
    "twin": "c",
    "headnoun": "a",
    "mi": "a",
    "pid_unique": "a",
    "pid_redundant": "a",
    "pid_synergy": "a",
    "pid_shared": "a",
}
# metrics of something else than the evaluation's images; here it follows the images of "a"
OTHER_IMAGES = ("headnoun", "mi", "pid_unique", "pid_redundant", "pid_synergy", "pid_shared")
RETENTION = ("nra", "twin", "ora", "fid", "kid", "clip", "drift", "drift_latent")  # of concepts that must stay
GOLDEN = {"a": "abda", "b": "bbbb", "c": "cbca", "d": "dddx"}

sights = st.fixed_dictionaries(
    dict.fromkeys(ALL, st.lists(st.sampled_from("abcdx"), min_size=4, max_size=4).map("".join))
)
seeds = st.integers(0, 9)
some = settings(max_examples=40)  # of each metric; KID resamples in every one


def score(name: str, given: Evidence) -> Score:
    found = METRICS.get(name).compute(given)
    assert found is not None
    return found


def value(name: str, given: Evidence) -> float:
    return score(name, given).value


def test_accuracies_equal_shares_computed_by_hand() -> None:
    golden = evidence(GOLDEN)
    assert score("ua", golden) == Score(1 - 2 / 4, 4)
    assert score("nra", golden) == Score((4 + 2) / 8, 8)
    assert score("ora", golden) == Score(3 / 4, 4)


def test_accuracies_of_all_right_and_all_wrong_predictions() -> None:
    right = evidence({c: c * 3 for c in ALL})
    wrong = evidence(dict.fromkeys(ALL, "x" * 3))
    assert [value(name, right) for name in ("ua", "nra", "ora")] == [0, 1, 1]
    assert [value(name, wrong) for name in ("ua", "nra", "ora")] == [1, 0, 0]


def test_every_registered_metric_is_tested_here() -> None:
    assert set(CONCERNS) == set(NAMES)
    assert all(METRICS.get(name).name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@some
@given(seen=sights, seed=seeds, order=st.permutations(range(16)))
def test_metric_does_not_depend_on_order_of_images(
    name: str, seen: dict[str, str], seed: int, order: list[int]
) -> None:
    before = whole(seen, seed)
    assert value(name, take(before, order)) == pytest.approx(value(name, before), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@some
@given(seen=sights, seed=seeds)
def test_metric_does_not_depend_on_order_of_concepts(name: str, seen: dict[str, str], seed: int) -> None:
    before = whole(seen, seed)
    turned = dataclasses.replace(before, in_domain=before.in_domain[::-1])
    assert value(name, turned) == pytest.approx(value(name, before), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@some
@given(seen=sights, seed=seeds)
def test_metric_is_in_its_range_and_counts_its_images(name: str, seen: dict[str, str], seed: int) -> None:
    metric, found = METRICS.get(name), score(name, whole(seen, seed))
    assert metric.low - 1e-9 <= found.value <= metric.high
    assert found.n == 4 * len(CONCERNS[name])


@pytest.mark.parametrize("name", NAMES)
@some
@given(seen=sights, seed=seeds)
def test_metric_ignores_images_of_other_concepts(name: str, seen: dict[str, str], seed: int) -> None:
    before = whole(seen, seed)
    others = [i for i, concept in enumerate(before.requested) if concept not in CONCERNS[name]]
    # the images of the concepts that don't concern it swap places among themselves, labels kept: other images for each
    order = list(range(16))
    for i, j in zip(others, [*others[1:], *others[:1]], strict=True):
        order[i] = j
    moved = dataclasses.replace(take(before, order), requested=before.requested)
    assert value(name, moved) == pytest.approx(value(name, before), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_metric_with_missing_image_raises(name: str) -> None:
    complete = whole(GOLDEN)
    for lost in range(16):
        broken = take(complete, [i for i in range(16) if i != lost])
        if complete.requested[lost] in CONCERNS[name]:
            with pytest.raises(MissingEvidence, match=r". has 3, expected 4"):
                METRICS.get(name).compute(broken)
    if name not in OTHER_IMAGES:
        with pytest.raises(MissingEvidence, match="16 images were requested, but 15 were judged"):
            METRICS.get(name).compute(dataclasses.replace(complete, predicted=complete.predicted[:-1]))


@pytest.mark.parametrize("name", NAMES)
def test_metric_of_task_without_concepts_raises_or_is_none(name: str) -> None:
    empty = dataclasses.replace(whole(GOLDEN), forget=(), in_domain=(), out_of_domain=(), nearest=())
    if name in RETENTION:  # a world may have nothing else to keep
        assert METRICS.get(name).compute(empty) is None
        return
    with pytest.raises(MissingEvidence, match="list of concepts to measure is empty"):
        METRICS.get(name).compute(empty)


def test_mean_needs_one_value_per_row() -> None:
    golden = evidence(GOLDEN)
    assert golden.mean(range(16), ("b",)) == Score((4 + 5 + 6 + 7) / 4, 4)
    with pytest.raises(MissingEvidence, match="16 images were requested, but 15 were measured"):
        golden.mean(range(15), ("b",))


@pytest.mark.parametrize(
    ("kept", "blank"),
    [
        (("b", "c"), {"ora"}),
        (("d",), {"nra", "twin"}),
        ((), set(RETENTION)),
    ],
)
def test_retention_metric_is_none_without_its_concepts(kept: tuple[str, ...], blank: set[str]) -> None:
    given = whole(GOLDEN)
    near, far = tuple(c for c in kept if c != "d"), tuple(c for c in kept if c == "d")
    given = dataclasses.replace(given, in_domain=near, out_of_domain=far, nearest=near[-1:])
    values = {name: METRICS.get(name).compute(given) for name in (*RETENTION, "uc_ira", "uc_cra")}
    assert {name for name, found in values.items() if found is None} == blank | {"uc_ira", "uc_cra"}
