"""The warnings about the cells of a board, as sentences for the terminal and the reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.board.tables import changes
from bench.core.filenames import without_paths
from bench.core.results import CellResult


def sentences(results: Sequence[CellResult]) -> list[str]:
    """One sentence for each concept that the untouched model does not draw, and for each method and warning.

    The sentence about a warning has the cells that it is about. They are in the order of the cells.
    The last sentences say what finished models change.
    """
    undrawn = dict.fromkeys(one.undrawn for result in results for one in result.concepts if one.undrawn)
    totals = Counter(result.method for result in results)
    cells: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        for text in result.warnings:
            cells.setdefault((result.method, text), []).append(result)
    concepts = [f"{text}; no figure and no rank counts it." for text in undrawn]
    warned = [
        f"{method}: {without_paths(text)} ({_where(of, totals[method])})." for (method, text), of in cells.items()
    ]
    differing = {method: changes([result for result in results if result.method == method]) for method in totals}
    about = "a finished model, of whose training nothing is known; it differs from the backbone in"
    return concepts + warned + [f"{method}: {about} {told}." for method, told in differing.items() if told]


def _where(of: Sequence[CellResult], total: int) -> str:
    if len(of) == total > 1:
        return f"in all {total} cells"
    if len(of) == 1:
        return f"task {of[0].task}, seed {of[0].seed}"
    return f"in {len(of)} of {total} cells"
