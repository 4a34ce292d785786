"""The numbers of the tiny pipeline are what they were: what tells a refactor from a change."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden

from bench.worlds import World

RELATIVE, ABSOLUTE = 2e-3, 1e-4  # of figures that are no whole numbers: processors round differently


def test_numbers_are_golden(world: World, tmp_path: Path) -> None:
    """Where they moved on purpose: raise the versions of these artifacts, then `python tests/golden.py`."""
    known, found = json.loads(golden.FILE.read_text()), json.loads(json.dumps(golden.measure(tmp_path)))
    moved = [line for name in {**known, **found} for line in differences(name, known.get(name), found.get(name))]
    assert not moved, "\n".join(moved)


def test_differences_are_found() -> None:
    assert not [*differences("x", {"a": [1, 0.5]}, {"a": [1, 0.5004]})]
    assert [*differences("x", {"a": [1, 0.5]}, {"a": [1, 0.51]})] == ["x.a.1: 0.51, golden 0.5"]
    assert [*differences("x", {"a": 100000}, {"a": 100001})] == ["x.a: 100001, golden 100000"]
    assert [*differences("x", {"a": 1}, {"b": 1})] == ["x.a: None, golden 1", "x.b: 1, golden None"]


def differences(name: str, known: Any, found: Any) -> Iterator[str]:
    """What differs, a line each: whole numbers and words at all, other numbers by more than the tolerance."""
    if isinstance(known, dict) and isinstance(found, dict):
        for key in {**known, **found}:
            yield from differences(f"{name}.{key}", known.get(key), found.get(key))
    elif isinstance(known, list) and isinstance(found, list) and len(known) == len(found):
        for i, (one, other) in enumerate(zip(known, found, strict=True)):
            yield from differences(f"{name}.{i}", one, other)
    elif isinstance(known, float) and isinstance(found, float):
        if not math.isclose(known, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{name}: {found}, golden {known}"
    elif known != found:
        yield f"{name}: {found}, golden {known}"
