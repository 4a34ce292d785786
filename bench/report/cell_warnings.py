"""The warnings about the cells of a board, as sentences for the terminal and the reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.core.filenames import without_paths
from bench.core.results import CellResult


def sentences(results: Sequence[CellResult]) -> list[str]:
    """One sentence for each method and warning, with the cells that it is about, in the order of the cells."""
    totals = Counter(result.method for result in results)
    cells: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        for text in result.warnings:
            cells.setdefault((result.method, text), []).append(result)
    return [f"{method}: {without_paths(text)} ({_where(of, totals[method])})." for (method, text), of in cells.items()]


def _where(of: Sequence[CellResult], total: int) -> str:
    if len(of) == total > 1:
        return f"in all {total} cells"
    if len(of) == 1:
        return f"task {of[0].task}, seed {of[0].seed}"
    return f"in {len(of)} of {total} cells"
