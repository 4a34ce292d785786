"""Results of cells, made by hand: the one place where tests say what a result consists of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bench.core.results import CellResult, ConceptResult
from bench.core.score import Score
from metrics import COSTS


def scores(values: Mapping[str, float | None], n: int = 10) -> dict[str, Score | None]:
    """Figures by metric, each on `n` images."""
    return {name: None if value is None else Score(value, n) for name, value in values.items()}


def cell_result(method: str, task: str, seconds: float = 1.0, **fields: Any) -> CellResult:
    """A finished cell that forgets the concept called as its task, unless `fields` of the result say otherwise.

    Every cost is 1, but for `seconds`.
    """
    counts = {section: {c.name: 1 for c in COSTS if c.section == section} for section in ("cost", "data")}
    usual: dict[str, Any] = {
        "seed": 0, "fingerprint": "f00d", "fidelity": "published", "multi": "joint", "base_method": method,
        "forget": (task,), "status": "ok", "cost": {**counts["cost"], "seconds": seconds}, "data": counts["data"],
        "compensation": "none", "extractor": "x",
    }  # fmt: skip
    return CellResult(method, task, **usual | fields)


def failed(one: CellResult, reason: str = "NonFiniteLoss: nan", traceback: str = "") -> CellResult:
    """The same cell, had it failed."""
    nothing: dict[str, Any] = {
        "scores": {}, "concepts": (), "curve": None, "cost": {}, "data": {}, "compensation": "", "extractor": "",
    }  # fmt: skip
    return dataclasses.replace(one, **nothing, status="failed", reason=reason, traceback=traceback)


def concept(name: str, role: str, accuracy: float, n: int = 10, **fields: Any) -> ConceptResult:
    """A concept of a cell; accuracy as a share. It is as far as can be from what is forgotten, or is that itself."""
    usual: dict[str, Any] = {
        "distances": {"text": float(role != "forget")}, "judge": 1.0, "judge_n": 60, "judged_by": "species",
    }  # fmt: skip
    return ConceptResult(name, role, accuracy=accuracy, n=n, **usual | fields)


def with_score(one: CellResult, metric: str, score: Score | None) -> CellResult:
    """The same cell with another figure of one metric."""
    return dataclasses.replace(one, scores={**one.scores, metric: score})
