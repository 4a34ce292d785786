"""The numbers of the tiny pipeline are what they were: what tells a refactor from a change."""

import json
from pathlib import Path

import golden
from support.differences import differences

from bench.worlds import World


def test_numbers_are_golden(world: World, tmp_path: Path) -> None:
    """Where they moved on purpose: raise the versions of these artifacts, then `python tests/golden.py`."""
    known, found = json.loads(golden.FILE.read_text()), json.loads(json.dumps(golden.measure(tmp_path)))
    moved = [line for name in {**known, **found} for line in differences(name, known.get(name), found.get(name))]
    assert not moved, "\n".join(moved)


def test_differences_are_found() -> None:
    assert not [*differences("x", {"a": [1, 0.5]}, {"a": [1, 0.5004]})]
    assert [*differences("x", {"a": [1, 0.5]}, {"a": [1, 0.51]})] == ["x.a.1: 0.51, known 0.5"]
    assert [*differences("x", {"a": 100000}, {"a": 100001})] == ["x.a: 100001, known 100000"]
    assert [*differences("x", {"a": 1}, {"b": 1})] == ["x.a: None, known 1", "x.b: 1, known None"]
