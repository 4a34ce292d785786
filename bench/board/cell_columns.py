"""What sets a cell apart besides its method, task and seed, as columns of tables: those that some result has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

WAY = "way"  # how a method takes several concepts
WHOLE = ("k", "step")  # columns of whole numbers


def columns(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each result its facets, all with the same columns; what a cell has not is None.

    `k` concepts forgotten by then and the `way` the method takes several, where some task forgets several; `chain`,
    `step` (from 1) and `request` of a request in a sequence; `probe`, how a model was trained further, and `of`, the
    task it had unlearned; `variant_of`, a method's plain name, and `variant`, what was set, as JSON, of a sweep.
    """
    rows: list[dict[str, Any]] = [{} for _ in results]
    pairs = list(zip(rows, results, strict=True))
    if several(results):
        for row, result in pairs:
            row |= {"k": len(result["forget"]), WAY: result[WAY]}
    if any(result.get("step") for result in results):
        for row, result in pairs:
            step = result["step"] or {}
            request = words(step["request"]) if step else None
            row |= {"chain": step.get("chain"), "step": step.get("number"), "request": request}
    if any(result.get("probe") for result in results):
        for row, result in pairs:
            probe = result["probe"]
            row |= {"probe": result["band"] if probe else None, "of": probe["of"] if probe else None}
    if any(result.get("variant") for result in results):
        for row, result in pairs:
            row |= {"variant_of": result["variant_of"], "variant": json.dumps(result["variant"], sort_keys=True)}
    return rows


def several(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some task forgets more than one concept."""
    return any(len(result.get("forget", ())) > 1 for result in results)


def words(request: Sequence[str]) -> str:
    """A request as tables have it."""
    return ", ".join(request)


def since(result: Mapping[str, Any], concept: str, asked: Mapping[tuple[str, str], int]) -> int | None:
    """The request that asked for `concept` to be forgotten, of `asked_at`, if that was by then; else None."""
    step = result.get("step")
    number = asked.get((step["chain"], concept)) if step else None
    return number if step and number and number <= step["number"] else None


def asked_at(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """(chain, concept) -> number of the request of that sequence that asked for the concept to be forgotten."""
    steps = [result["step"] for result in results if result.get("step")]
    return {(step["chain"], concept): step["number"] for step in steps for concept in step["request"]}
