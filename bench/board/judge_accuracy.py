"""How far the judges of a board are right: what no model can be seen to exceed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.core.results import CellResult, ConceptResult


def on_real_pictures(results: Sequence[CellResult]) -> dict[str, float | int | None]:
    """Accuracy of the judges, in %, on real pictures of all concepts evaluated.

    With several judges, also the accuracy of each, "judge_NAME", on the concepts that it judges.
    """
    concepts = {one.concept: one for result in results for one in result.concepts}.values()
    names = sorted({one.judged_by for one in concepts})
    by_judge = {name: [one for one in concepts if one.judged_by == name] for name in names if len(names) > 1}
    return {"judge": _accuracy(concepts), "judge_n": sum(one.judge_n for one in concepts)} | {
        f"judge_{name}": _accuracy(judged) for name, judged in by_judge.items()
    }


def _accuracy(concepts: Collection[ConceptResult]) -> float | None:
    total = sum(one.judge_n for one in concepts)
    return 100 * sum(one.judge * one.judge_n for one in concepts) / total if total else None
