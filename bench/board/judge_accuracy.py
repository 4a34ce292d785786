"""The accuracy of judges on real pictures, and on images of the untouched model in worlds that draw a line there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from bench.core.results import CellResult, ConceptResult

UNTOUCHED = ("untouched", "untouched_n", "undrawn")  # columns of the table of concepts


def columns(results: Sequence[CellResult]) -> dict[str, float | int | None]:
    """Accuracy of the judges, in %, on all evaluated concepts.

    The measured accuracy of a model cannot be expected to exceed the accuracy of the judges.

    Returns:
        "judge", the accuracy on real pictures, and "judge_n", the number of real pictures. If there are several judges,
        also the accuracy of each judge ("judge_NAME") on the concepts that it judges. An accuracy is None if its judges
        classified no real pictures. If the world draws a line, also "untouched", the accuracy on images of the
        untouched model, and "untouched_n", the number of these images.
    """
    concepts = {one.concept: one for result in results for one in result.concepts}.values()
    names = sorted({one.judged_by for one in concepts})
    by_judge = {name: [one for one in concepts if one.judged_by == name] for name in names if len(names) > 1}
    row = {"judge": _pooled(concepts), "judge_n": sum(one.judge_n for one in concepts)}
    row |= {f"judge_{name}": _pooled(judged) for name, judged in by_judge.items()}
    if has_untouched(results):
        total = sum(one.untouched_n for one in concepts)
        right = sum(one.untouched * one.untouched_n for one in concepts if one.untouched is not None)
        row |= {"untouched": 100 * right / total if total else None, "untouched_n": total}
    return row


def has_untouched(results: Sequence[CellResult]) -> bool:
    """Whether the world of some results draws a line for images of the untouched model."""
    return any(one.untouched is not None for result in results for one in result.concepts)


def of_concept(one: ConceptResult) -> dict[str, float | int | str | None]:
    """The columns UNTOUCHED of a row of the table of concepts."""
    accuracy = None if one.untouched is None else one.untouched * 100
    return dict(zip(UNTOUCHED, (accuracy, one.untouched_n, one.undrawn or None), strict=True))


def counted(concepts: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of concepts that figures count.

    A row is left out if the untouched model does not draw its concept, or a concept that its task forgets.
    """
    if UNTOUCHED[-1] not in concepts:
        return concepts
    undrawn = concepts[UNTOUCHED[-1]].notna()
    tasks = set(concepts.loc[undrawn & (concepts["role"] == "forget"), "task"])
    return concepts[~undrawn & ~concepts["task"].isin(tasks)]


def _pooled(concepts: Collection[ConceptResult]) -> float | None:
    total = sum(one.judge_n for one in concepts)
    right = sum(one.judge * one.judge_n for one in concepts if one.judge is not None)
    return 100 * right / total if total else None
