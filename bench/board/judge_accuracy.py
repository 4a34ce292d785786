"""How far the judges of a board are right: what no model can be seen to exceed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def on_real_pictures(results: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Accuracy of the judges, in %, on real pictures of all concepts evaluated.

    Where there are several, also each one's, "judge_NAME", on the concepts that it judges.
    """
    rows = {row["concept"]: row for result in results for row in result.get("concepts", ())}.values()
    names = sorted({row["judged_by"] for row in rows})
    each = {name: [row for row in rows if row["judged_by"] == name] for name in names if len(names) > 1}
    return {"judge": _share(rows), "judge_n": sum(row["judge_n"] for row in rows)} | {
        f"judge_{name}": _share(own) for name, own in each.items()
    }


def _share(rows: Collection[dict[str, Any]]) -> float | None:
    total = sum(row["judge_n"] for row in rows)
    return 100 * sum(row["judge"] * row["judge_n"] for row in rows) / total if total else None
