import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exhibits import ALL, whole

from bench.worlds.pocket.drawing.species import SPECIES
from bench.worlds.pocket.world import POCKET
from metrics import METRICS, Evidence, HeadNouns
from metrics.base import MissingEvidence, Score

HEADNOUN = METRICS.get("headnoun")


def shown(judged: str, named: str = "ab", **changes: object) -> Evidence:
    nouns = HeadNouns(requested=("a",) * len(judged), predicted=tuple(judged), named={"a": tuple(named)})
    base = whole({c: c * 4 for c in ALL})
    return dataclasses.replace(base, headnoun=nouns, **changes)  # type: ignore[arg-type]


def test_headnoun_equals_share_computed_by_hand() -> None:
    assert HEADNOUN.compute(shown("abbx")) == Score(2 / 4, 4)
    assert HEADNOUN.compute(shown("bbcc", named="abc")) == Score(1, 4)


def test_headnoun_is_one_if_all_right_and_zero_if_all_wrong() -> None:
    assert HEADNOUN.compute(shown("bbbb")) == Score(1, 4)
    assert HEADNOUN.compute(shown("aaaa")) == Score(0, 4)  # the forgotten concept itself does not remain


@given(st.permutations("aabbbx"))
def test_headnoun_does_not_depend_on_order_of_images(judged: list[str]) -> None:
    assert HEADNOUN.compute(shown("".join(judged), counts={"a": 6})) == Score(3 / 6, 6)


def test_headnoun_with_missing_image_raises() -> None:
    with pytest.raises(MissingEvidence, match="a has 3, expected 4"):
        HEADNOUN.compute(shown("bbb"))
    with pytest.raises(MissingEvidence, match="no images were drawn for head nouns"):
        HEADNOUN.compute(dataclasses.replace(shown("bbbb"), headnoun=None))
    lost = dataclasses.replace(shown("bbbb").headnoun, predicted=("b", "b", "b"))  # type: ignore[type-var]
    with pytest.raises(MissingEvidence, match="4 images were requested, but 3 were judged"):
        HEADNOUN.compute(dataclasses.replace(shown("bbbb"), headnoun=lost))


def test_headnoun_is_none_without_retained_concept() -> None:
    assert HEADNOUN.compute(dataclasses.replace(shown(""), headnoun=HeadNouns())) is None
    both = dataclasses.replace(shown("bbbb"), forget=("a", "b"), in_domain=("c",))
    assert HEADNOUN.compute(both) is None


def test_pocket_world_lists_species_of_head_noun() -> None:
    prompts, named = POCKET.headnoun("golden retriever") or ((), ())
    assert named == ("golden retriever", "labrador retriever")
    assert len(prompts) == len(POCKET.prompts("evaluate", "golden retriever"))
    assert all("retriever" in prompt and "golden" not in prompt for prompt in prompts)
    shared = {name for name in SPECIES if POCKET.headnoun(name)}
    assert len(shared) == 12
    assert not shared & {"siberian husky", "poodle", "daisy", "barn owl"}
