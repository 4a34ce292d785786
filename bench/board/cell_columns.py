"""Columns that identify a cell besides method, task and seed.

A table has such a column only if at least one result has a value for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.results import CellResult

WAY = "way"  # column: how a method handles several concepts
WHOLE = ("k", "step")  # columns of whole numbers


def columns(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """For each result, a dict of the columns that identify its cell.

    All results have the same columns. A value is None if the cell has no such value. The columns are:

    - `k` and `way`, if some task forgets several concepts. `k` is the number of concepts that were forgotten up to this
      cell. `way` says how the method handles several concepts.
    - `chain`, `step` and `request`, if there are sequences. `chain` is the sequence, `step` is the number of the
      request in it, from 1, and `request` has the concepts of the request as text.
    - `probe` and `of`, if unlearned models were trained further. `probe` names the further training. `of` is the task
      that the model had unlearned.
    - `variant_of` and `variant`, if there is a sweep. `variant_of` is the method's name without its variant. `variant`
      has the settings of the variant as a JSON object.
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
    """A request as text, in the form that tables use: its concepts, separated by commas."""
    return ", ".join(request)


def since(result: CellResult, concept: str, numbers: Mapping[tuple[str, str], int]) -> int | None:
    """The number of the request that asked to forget `concept`, from `request_numbers`.

    None if the cell does not belong to a sequence, if its sequence has no such request, or if that request comes after
    the cell's own request.
    """
    if result.step is None:
        return None
    number = numbers.get((result.step.sequence, concept))
    return number if number and number <= result.step.number else None


def request_numbers(results: Sequence[CellResult]) -> dict[tuple[str, str], int]:
    """(sequence, concept) -> number, from 1, of the request in this sequence that asked to forget the concept."""
    steps = [result.step for result in results if result.step]
    return {(step.sequence, concept): step.number for step in steps for concept in step.request}
