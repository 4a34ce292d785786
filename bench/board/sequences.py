"""Figures of sequences of requests: which losses accumulate, and how far forgotten concepts come back.

Each request of a sequence starts from the weights after the request before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.board import cell_columns, clusters, statistics
from bench.board.columns import Figures, Measured, column, ends
from bench.board.statistics import Interval
from bench.core.results import CellResult
from metrics import Column

MATRIX = ("method", "chain", "seed", "step", "request", "concept", "since", "ua", "n")
ALONG = ("ua", "nra", "ora", "twin", "drift")
PLACE = ["chain", "seed"]
RANKED_BY = "final_h"
# General columns that a narrow table keeps beside COLUMNS. It drops all of them, since they average all states.
STAY: tuple[str, ...] = ()
UNLIKE = "states after all requests, the last as much as those on the way"  # the states that general columns average
CLUSTERS = "sequences"

COLUMNS = (
    Column(RANKED_BY, "H after the last request", "%", "higher"),
    Column("final_ua", "UA over all that was forgotten, after the last request", "%", "higher"),
    Column("final_nra", "NRA after the last request", "%", "higher", headline=False),
    Column("final_ora", "ORA after the last request", "%", "higher", headline=False),
    Column("final_kept", "accuracy on all images of concepts that must stay, after the last request", "%", "higher"),
    Column(
        "worst_return",
        "the largest fall of a concept's UA, after any later request, below what it was right after its own",
        "pp",
        "lower",
    ),
    Column("drift_per_request", "drift after the last request by the number of requests", "", "lower", digits=4),
    Column("seconds_all", "what all requests took together", "s", "lower", headline=False, digits=0),
)


def matrix(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row for each finished request of a sequence and each concept forgotten by then.

    `step` is the number of the request, from 1. `request` has the concepts that it asked to forget, as text. `since` is
    the number of the request that asked to forget `concept`. It is at most `step`. `ua` is 100 minus the accuracy on
    `concept` after `step`, in %. It is computed from `n` images.
    """
    numbers, rows = cell_columns.request_numbers(results), []
    for result in results:
        if (step := result.step) is None:
            continue
        head = (result.method, step.sequence, result.seed, step.number, cell_columns.words(step.request))
        for one in result.concepts:
            if one.role == "forget" and not one.undrawn:
                since = cell_columns.since(result, one.concept, numbers)
                rows.append((*head, one.concept, since, 100 - 100 * one.accuracy, one.n))
    return pd.DataFrame(rows, columns=list(MATRIX))


def along(cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each method and step of its sequences, with the means of the method's figures after that step.

    `request` has the concepts that the step asks to forget. If sequences ask for different concepts at this step, " / "
    separates their requests. Then come NAME, NAME_lo and NAME_hi of each of UA, NRA, ORA, TWIN, DRIFT and H that was
    measured, with intervals over sequences. `seconds` is the time of all requests up to this step, as a mean over
    sequences and seeds. A method has a row for a step only if all requests up to that step are finished in all its
    sequences. The table is empty if there are no sequences.

    Args:
        cells: table from `tables.cells_frame`.
    """
    names = [*(name for name in ALONG if name in cells), *((clusters.H,) if set(clusters.PARTS) <= set(cells) else ())]
    rows = []
    for method, group in requests(cells).groupby("method", sort=False):
        for number in sorted(group["step"].unique()):
            before, here = group[group["step"] <= number], group[group["step"] == number]
            if not clusters.whole(before):
                break
            rows.append(
                {
                    "method": method,
                    "step": int(number),
                    "request": " / ".join(dict.fromkeys(here["request"])),
                    **clusters.figures(here, names),
                    "seconds": seconds(before).mean,
                }
            )
    return pd.DataFrame(rows, columns=["method", "step", "request", *clusters.spread(names), "seconds"])


def requests(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that are requests of a sequence. The table is empty if there are no such cells."""
    if "chain" not in cells:
        return cells.iloc[:0].assign(chain="", step=0, request="")
    return cells[cells["chain"].notna()]


def last(cells: pd.DataFrame, of_board: pd.DataFrame) -> pd.DataFrame:
    """The rows of `cells` for the last request of each sequence. `of_board` has all cells of the board."""
    steps, length = requests(cells), requests(of_board).groupby("chain")["step"].max()
    return steps[steps["step"] == steps["chain"].map(length)]


def seconds(cells: pd.DataFrame) -> Interval:
    """Total seconds of all requests of a sequence, as a mean over the sequences and seeds of one method's cells.

    The value is NaN if a cell has no seconds, such as a cell of an oracle.
    """
    if cells["seconds"].isna().any():
        return statistics.NONE
    return statistics.of_cells(clusters.keyed(cells.groupby(PLACE)[["seconds"]].sum()), low=0)


def returns(matrix: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(sequence, seed) of one method -> the largest fall of a concept's UA, in pp, at least 0.

    The fall is the UA right after the concept's own request, minus the lowest UA after this request or a later one.

    Args:
        matrix: rows of one method in the table from `matrix`.
    """
    place = [*PLACE, "concept"]
    at_request = matrix[matrix["step"] == matrix["since"]].set_index(place)["ua"]
    fallen = (at_request - matrix.groupby(place)["ua"].min()).rename("fall").reset_index()
    return clusters.keyed(fallen.groupby(PLACE)[["fall"]].max())


def kept(cells: pd.DataFrame, concepts: pd.DataFrame) -> tuple[dict[statistics.Cell, list[float]], int | None]:
    """Accuracy on all images of retained concepts after the last request, and the number of these images.

    Args:
        cells: rows of one method from `last`.
        concepts: rows of one method in the table from `tables.concepts_frame`.

    Returns (sequence, seed) -> accuracy in %, and the number of images over all sequences and seeds, or None if there
    are no images.
    """
    place = ["task", "seed"]
    rows = concepts[concepts["role"] != "forget"].merge(cells[[*place, "chain"]], on=place)
    sums = rows.assign(right=rows["accuracy"] * rows["n"]).groupby(PLACE)[["right", "n"]].sum()
    share = (sums["right"].astype(float) / sums["n"].astype(float)).to_frame()
    return clusters.keyed(share), int(sums["n"].sum()) if len(sums) else None


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The columns of one method: those of `COLUMNS` that were measured. The result is empty if there are no sequences.

    The clusters are the sequences, each with its seeds. Figures of whole sequences have no value if a request is
    missing.
    """
    steps = requests(of_board.cells)[["chain", "step"]].drop_duplicates()
    if not len(steps):
        return {}
    cells, end = requests(of_method.cells), last(of_method.cells, of_board.cells)
    whole = len(cells) == len(steps) * cells["seed"].nunique()
    row: Figures = {}
    if set(clusters.PARTS) <= set(end):
        row |= column(RANKED_BY, clusters.harmonic(end), clusters.images(end, clusters.H))
    for name in (name for name in clusters.PARTS if name in end):
        row |= column(f"final_{name}", clusters.figure(end, name), clusters.images(end, name))
    accuracy, count = kept(end, of_method.concepts)
    row |= column("final_kept", statistics.of_cells(accuracy, 0, 100), count)
    matrix = of_method.matrix if whole else of_method.matrix.iloc[:0]
    row |= column("worst_return", statistics.of_cells(returns(matrix), 0, 100), int(matrix["n"].sum()) or None)
    if "drift" in end:
        each = clusters.pooled(end.assign(drift=end["drift"] / end["step"].astype(float)), ["drift"])
        row |= column("drift_per_request", statistics.of_cells(each, low=0), clusters.images(end, "drift"))
    return row | ends("seconds_all", seconds(cells) if whole else statistics.NONE)


def described(columns: list[str]) -> list[Column]:
    """The columns of this module among the `columns` of a board."""
    return [one for one in COLUMNS if one.name in columns]
