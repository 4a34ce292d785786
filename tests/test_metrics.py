"""Golden values by hand, properties by hypothesis."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metrics import METRICS, Evidence
from metrics.base import MissingEvidence

NAMES = METRICS.names()
ROLES = {"forget": ("a",), "in_domain": ("b", "c"), "out_of_domain": ("d",)}
ALL = ("a", "b", "c", "d")


def evidence(judged: dict[str, str]) -> Evidence:
    """Evidence from "concept -> what was seen in each of its images, one letter each"."""
    asked = "".join(concept * len(seen) for concept, seen in judged.items())
    return Evidence(
        **ROLES, asked=tuple(asked), judged=tuple("".join(judged.values())), images_per_concept=len(judged["a"])
    )


GOLDEN = evidence({"a": "abda", "b": "bbbb", "c": "cbca", "d": "dddx"})


def value(name: str, given: Evidence) -> float:
    return METRICS.get(name).compute(given).value


def test_by_hand() -> None:
    assert value("ua", GOLDEN) == 1 - 2 / 4
    assert value("nra", GOLDEN) == (4 + 2) / 8
    assert value("ora", GOLDEN) == 3 / 4
    assert [METRICS.get(name).compute(GOLDEN).n for name in ("ua", "nra", "ora")] == [4, 8, 4]


def test_all_right_and_all_wrong() -> None:
    right = evidence({c: c * 3 for c in ALL})
    wrong = evidence(dict.fromkeys(ALL, "x" * 3))
    assert [value(name, right) for name in ("ua", "nra", "ora")] == [0, 1, 1]
    assert [value(name, wrong) for name in ("ua", "nra", "ora")] == [1, 0, 0]


sights = st.lists(st.sampled_from("abcdx"), min_size=4, max_size=4).map("".join)


@given(st.fixed_dictionaries(dict.fromkeys(ALL, sights)), st.randoms(use_true_random=False))
def test_the_order_of_images_changes_nothing(seen: dict[str, str], random: object) -> None:
    before = with_features(evidence(seen), seed=0)
    order = list(range(len(before.asked)))
    random.shuffle(order)  # type: ignore[attr-defined]
    after = dataclasses.replace(
        before,
        asked=tuple(before.asked[i] for i in order),
        judged=tuple(before.judged[i] for i in order),
        features=before.features[order],
    )
    for name in NAMES:
        assert value(name, after) == pytest.approx(value(name, before), rel=1e-6)


@given(st.fixed_dictionaries(dict.fromkeys(ALL, sights)))
def test_figures_stay_in_their_range_and_say_what_they_rest_on(seen: dict[str, str]) -> None:
    given_evidence = with_features(evidence(seen), seed=1)
    for name in NAMES:
        metric = METRICS.get(name)
        score = metric.compute(given_evidence)
        assert metric.low - 1e-9 <= score.value <= metric.high
        assert score.n == {"ua": 4, "nra": 8, "ora": 4, "fid": 12}[name]


@given(st.fixed_dictionaries(dict.fromkeys(ALL, sights)))
def test_only_the_concepts_of_a_role_count(seen: dict[str, str]) -> None:
    base = evidence(seen)
    assert value("ua", base) == value("ua", evidence({**seen, "b": "xxxx", "c": "xxxx", "d": "xxxx"}))
    assert value("nra", base) == value("nra", evidence({**seen, "a": "xxxx", "d": "xxxx"}))
    assert value("ora", base) == value("ora", evidence({**seen, "a": "xxxx", "b": "xxxx", "c": "xxxx"}))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_image_is_an_error(name: str) -> None:
    whole = with_features(GOLDEN, seed=2)
    for lost in range(len(whole.asked)):
        keep = [i for i in range(len(whole.asked)) if i != lost]
        broken = dataclasses.replace(
            whole,
            asked=tuple(whole.asked[i] for i in keep),
            judged=tuple(whole.judged[i] for i in keep),
            features=whole.features[keep],
        )
        concerned = {"ua": "a", "nra": "bc", "ora": "d", "fid": "bcd"}[name]
        if whole.asked[lost] in concerned:
            with pytest.raises(MissingEvidence, match="4 images of each concept are due"):
                METRICS.get(name).compute(broken)
    with pytest.raises(MissingEvidence, match="16 images were asked for, 15 were judged"):
        METRICS.get(name).compute(dataclasses.replace(whole, judged=whole.judged[:-1]))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_concepts_to_measure_on_is_an_error(name: str) -> None:
    empty = dataclasses.replace(with_features(GOLDEN, seed=2), forget=(), in_domain=(), out_of_domain=())
    with pytest.raises(MissingEvidence, match="no concept"):
        METRICS.get(name).compute(empty)


def with_features(base: Evidence, seed: int, reference_count: int = 8) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(base.asked), 3, generator=generator)
    reference = {c: torch.randn(reference_count, 3, generator=generator) for c in ALL}
    return dataclasses.replace(base, features=features, reference=reference, extractor="x")


class TestFID:
    def test_by_hand(self) -> None:
        # One dimension: drawn {0, 2, 4, 6, ...}; |mu1 - mu2|^2 + (s1 - s2)^2
        base = evidence({c: c * 2 for c in ALL})
        drawn = torch.tensor([[99.0, 99.0], [99.0, 99.0], [0, 0], [2, 0], [0, 1], [2, 1], [1, 0], [1, 1]])
        real = drawn[2:] * torch.tensor([3.0, 1.0]) + torch.tensor([5.0, 0.0])
        reference = {"b": real[:2], "c": real[2:4], "d": real[4:], "a": torch.zeros(2, 2)}
        given_evidence = dataclasses.replace(base, features=drawn, reference=reference, extractor="x")
        # first axis: means 1 and 8, variances 4/5 and 36/5; the axes are uncorrelated, the second is the same in both
        expected = 7.0**2 + (math.sqrt(36 / 5) - math.sqrt(4 / 5)) ** 2
        assert value("fid", given_evidence) == pytest.approx(expected, rel=1e-6)
        assert METRICS.get("fid").compute(given_evidence).n == 6

    def test_a_set_has_no_distance_from_itself(self) -> None:
        base = with_features(evidence({c: c * 4 for c in ALL}), seed=3)
        own = {c: base.features[[a == c for a in base.asked]] for c in ALL}
        assert value("fid", dataclasses.replace(base, reference=own)) == pytest.approx(0, abs=1e-6)

    def test_the_forgotten_concept_does_not_count(self) -> None:
        base = with_features(GOLDEN, seed=4)
        changed = base.features.clone()
        changed[[a == "a" for a in base.asked]] += 100
        assert value("fid", dataclasses.replace(base, features=changed)) == value("fid", base)

    def test_worse_pictures_score_worse(self) -> None:
        base = with_features(GOLDEN, seed=5)
        scores = [value("fid", dataclasses.replace(base, features=base.features + shift)) for shift in (0, 1, 3)]
        assert scores[0] < scores[1] < scores[2]

    def test_without_real_pictures_of_every_concept_there_is_no_figure(self) -> None:
        base = with_features(GOLDEN, seed=6)
        with pytest.raises(MissingEvidence, match=r"no real pictures of \['d'\]"):
            METRICS.get("fid").compute(
                dataclasses.replace(base, reference={c: base.reference[c] for c in ("a", "b", "c")})
            )
        with pytest.raises(MissingEvidence, match="features of only 3"):
            METRICS.get("fid").compute(dataclasses.replace(base, features=base.features[:3]))
