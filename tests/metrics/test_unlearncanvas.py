"""Images that ask for two concepts: what counts where, by Lethe's reading and by UnlearnCanvas's."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metrics import METRICS, Evidence, Score
from metrics.base import MissingEvidence

STYLES, OBJECTS, SEEDS = ("seed", "ink", "oil", "neon"), ("cat", "dog", "jar"), range(2)
IMAGES = list(itertools.product(STYLES, OBJECTS, SEEDS))  # each asks for a style and for an object


def crossed(right: dict[tuple[str, str], bool], forget: str = "ink", aside: tuple[str, ...] = ("seed",)) -> Evidence:
    """Every image with a row for its style and one for its object; `right`: (style, object) -> judged as asked."""
    kinds = {"style": tuple(s for s in STYLES if s not in aside), "object": OBJECTS}
    near, far = ("style", "object") if forget in STYLES else ("object", "style")
    rows = [(image[side], i) for side in (0, 1) for i, image in enumerate(IMAGES)]
    names = {c: [f"{s}/{o}/{n}" for s, o, n in IMAGES if c in (s, o)] for c in (*STYLES, *OBJECTS)}
    place = {f"{s}/{o}/{n}": i for i, (s, o, n) in enumerate(IMAGES)}
    real = torch.randn(len(IMAGES), 3, generator=torch.Generator().manual_seed(1))
    return Evidence(
        forget=(forget,),
        in_domain=tuple(c for c in kinds[near] if c != forget),
        out_of_domain=kinds[far],
        requested=tuple(c for c, _ in rows),
        predicted=tuple(c if right.get(IMAGES[i][:2], True) else "?" for c, i in rows),
        counts={c: len(names[c]) for c in names},
        images=tuple(i for _, i in rows),
        also_requested=tuple(frozenset(IMAGES[i][:2]) for _, i in rows),
        held_out=aside,
        features=torch.arange(len(IMAGES), dtype=torch.float32)[[i for _, i in rows]][:, None].expand(-1, 3),
        reference={c: real[[place[name] for name in names[c]]] for c in names},
        reference_ids={c: tuple(names[c]) for c in names},
        domains={forget: STYLES if forget in STYLES else OBJECTS},
    )


def score(name: str, evidence: Evidence) -> Score | None:
    return METRICS.get(name).compute(evidence)


def test_image_in_forgotten_style_does_not_count_for_its_object() -> None:
    gone = crossed({("ink", o): False for o in OBJECTS})
    assert score("ua", gone) == score("uc_ua", gone) == Score(1.0, 6)
    assert score("nra", gone) == Score(1.0, 2 * 6)
    assert score("ora", gone) == Score(1.0, 3 * 2 * 2)  # of four styles neither the forgotten one nor the one aside
    assert score("uc_ira", gone) == Score(1.0, 3 * 6)
    assert score("uc_cra", gone) == Score(0.75, 3 * 4 * 2)  # a quarter is in the forgotten style


def test_held_out_style_counts_only_for_unlearncanvas_metrics() -> None:
    broken = crossed({("seed", o): False for o in OBJECTS})
    assert [score(name, broken).value for name in ("ua", "nra", "ora", "uc_ua")] == [0.0, 1.0, 1.0, 0.0]
    assert score("uc_ira", broken) == Score(12 / 18, 18)
    assert score("uc_cra", broken) == Score(18 / 24, 24)


def test_forgotten_object_in_held_out_style_counts_only_for_unlearncanvas_metrics() -> None:
    gone = crossed({("seed", "cat"): False}, forget="cat")
    assert score("ua", gone) == Score(0.0, 3 * 2)
    assert score("uc_ua", gone) == Score(2 / 8, 4 * 2)
    assert score("nra", gone) == Score(1.0, 2 * 3 * 2)
    assert score("uc_ira", gone) == Score(1.0, 2 * 4 * 2)
    assert score("ora", gone) == Score(1.0, 3 * 2 * 2)
    assert score("uc_cra", gone) == Score(22 / 24, 4 * 3 * 2)


def test_feature_sets_hold_each_retained_image_once() -> None:
    evidence = crossed({})
    drawn, real = evidence.features_of(evidence.retained)
    kept = [i for i, (style, _, _) in enumerate(IMAGES) if style in ("oil", "neon")]
    assert drawn[:, 0].tolist() == kept
    place = torch.randn(len(IMAGES), 3, generator=torch.Generator().manual_seed(1))[kept].double()
    assert sorted(map(tuple, real.tolist())) == sorted(map(tuple, place.tolist()))


@given(order=st.permutations(range(2 * len(IMAGES))), wrong=st.sets(st.sampled_from([i[:2] for i in IMAGES])))
def test_metrics_do_not_depend_on_order_of_rows(order: list[int], wrong: set[tuple[str, str]]) -> None:
    before = crossed(dict.fromkeys(wrong, False))
    turned = dataclasses.replace(
        before,
        features=before.features[order],
        **{
            name: tuple(getattr(before, name)[i] for i in order)
            for name in ("requested", "predicted", "images", "also_requested")
        },
    )
    for name in ("ua", "nra", "ora", "uc_ua", "uc_ira", "uc_cra"):
        assert score(name, turned) == score(name, before)
    for mine, theirs in zip(turned.features_of(before.retained), before.features_of(before.retained), strict=True):
        assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_unlearncanvas_metrics_are_none_if_each_prompt_names_one_concept() -> None:
    apart = Evidence(("a",), ("b",), ("c",), tuple("abc"), tuple("abc"), dict.fromkeys("abc", 1))
    for name in ("uc_ua", "uc_ira", "uc_cra"):
        assert score(name, apart) is None
    # two that must stay may share an image
    both = frozenset("bc")
    shared = dataclasses.replace(apart, images=(0, 1, 1), also_requested=(frozenset("a"), both, both))
    assert score("uc_cra", shared) is None
    assert score("ora", shared) == Score(1.0, 1)


def test_concept_without_countable_image_raises() -> None:
    only = Evidence(("a",), ("b",), ("c",), tuple("abc"), tuple("abc"), dict.fromkeys("abc", 1))
    only = dataclasses.replace(
        only, images=(0, 0, 1), also_requested=(frozenset("ab"), frozenset("ab"), frozenset("c"))
    )
    with pytest.raises(MissingEvidence, match="every prompt of b"):
        score("nra", only)
    assert score("uc_ira", only) == Score(1.0, 1)


@pytest.mark.parametrize("name", ["ua", "nra", "ora", "uc_ua", "uc_ira", "uc_cra"])
def test_missing_row_raises(name: str) -> None:
    whole = crossed({})
    for concept in (*whole.forget, *whole.in_domain[:1], *whole.out_of_domain[:1]):
        lost = whole.requested.index(concept)
        rows = [i for i in range(len(whole.requested)) if i != lost]
        parts = {
            n: tuple(getattr(whole, n)[i] for i in rows) for n in ("requested", "predicted", "images", "also_requested")
        }
        broken = dataclasses.replace(whole, **parts)
        concerned = {"ua": whole.forget, "nra": whole.in_domain, "ora": whole.out_of_domain}
        ours = {"uc_ua": "ua", "uc_ira": "nra", "uc_cra": "ora"}.get(name, name)
        if concept in concerned[ours]:
            with pytest.raises(MissingEvidence, match="wrong number of images"):
                score(name, broken)


def test_excluded_image_is_found_by_its_prompt() -> None:
    # the only image of "a" itself is another one
    few = Evidence(("a",), ("b",), ("c",), tuple("abccc"), tuple("abcc?"), {"a": 1, "b": 1, "c": 3})
    few = dataclasses.replace(
        few, also_requested=tuple(map(frozenset, ("a", "b", "c", "c", "ac"))), images=tuple(range(5))
    )
    assert score("ora", few) == Score(1.0, 2)
    assert score("uc_cra", few) == Score(2 / 3, 3)
