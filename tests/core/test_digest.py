"""Digests of settings: equal for equal values, however they are held."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core import digest
from bench.core.task import Task

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@dataclasses.dataclass(frozen=True)
class Held:
    one: object
    other: object


@given(VALUES, VALUES)
def test_digest_of_a_value_equals_digest_of_its_plain_form(a: object, b: object) -> None:
    value = {"held": Held(a, (b, a)), "mapped": MappingProxyType({"a": a, "b": [b]})}
    text = json.dumps(digest.plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    assert digest.of_json(value) == hashlib.sha256(text.encode()).hexdigest()
    assert digest.of_json(value) == digest.of_json(dict(reversed(value.items())))


def test_different_values_have_different_digests_and_other_types_raise() -> None:
    task = Task("a", ("a",), ("b",), ())
    assert digest.of_json(task) != digest.of_json(dataclasses.replace(task, in_domain=("c",)))
    assert digest.of_json({"file": Path("a/b")}) == digest.of_json({"file": "a/b"})
    assert digest.plain(Held(Path("a/b"), ())) == {"one": "a/b", "other": []}
    assert digest.of_json((1, 2)) == digest.of_json([1, 2]) != digest.of_json([2, 1])
    for wrong in ({1, 2}, object(), Task):
        with pytest.raises(TypeError, match="has no canonical form"):
            digest.of_json({"x": wrong})
    with pytest.raises(ValueError, match="Out of range float"):
        digest.of_json(float("nan"))
