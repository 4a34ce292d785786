"""Columns that tell cells apart besides method, task and seed. A table has those that some result needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.results import CellResult

WAY = "way"  # column: how a method handles several concepts
WHOLE = ("k", "step")  # columns of whole numbers


def columns(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """For each result the columns that set its cell apart, the same for all results; None where a cell has no value.

    `k` concepts forgotten by then and the `way` the method takes several, where some task forgets several; `chain`,
    `step` (from 1) and `request` of a request in a sequence; `probe`, how a model was trained further, and `of`, the
    task it had unlearned; `variant_of`, a method's plain name, and `variant`, what was set, as JSON, of a sweep.
    """
    rows: list[dict[str, Any]] = [{} for _ in results]
    pairs = list(zip(rows, results, strict=True))
    if several(results):
        for row, result in pairs:
            row |= {"k": len(result.forget), WAY: result.multi}
    if any(result.step for result in results):
        for row, result in pairs:
            row |= dict.fromkeys(("chain", "step", "request"))
            if step := result.step:
                row |= {"chain": step.sequence, "step": step.number, "request": words(step.request)}
    if any(result.probe for result in results):
        for row, result in pairs:
            row |= dict.fromkeys(("probe", "of"))
            if probe := result.probe:
                row |= {"probe": result.band, "of": probe.unlearned_task}
    if any(result.variant for result in results):
        for row, result in pairs:
            row |= {"variant_of": result.base_method, "variant": json.dumps(result.variant, sort_keys=True)}
    return rows


def several(results: Sequence[CellResult]) -> bool:
    """Whether some task forgets more than one concept."""
    return any(len(result.forget) > 1 for result in results)


def words(request: Sequence[str]) -> str:
    """A request as text, as it is in tables."""
    return ", ".join(request)


def since(result: CellResult, concept: str, numbers: Mapping[tuple[str, str], int]) -> int | None:
    """The number of the request that asked to forget `concept`, from `request_numbers`.

    None if the cell's own request is earlier than that one, or belongs to no sequence.
    """
    if result.step is None:
        return None
    number = numbers.get((result.step.sequence, concept))
    return number if number and number <= result.step.number else None


def request_numbers(results: Sequence[CellResult]) -> dict[tuple[str, str], int]:
    """(sequence, concept) -> number of the request of that sequence that asked to forget the concept."""
    steps = [result.step for result in results if result.step]
    return {(step.sequence, concept): step.number for step in steps for concept in step.request}
