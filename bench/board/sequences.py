"""Sequences of requests, each starting from the weights of the last one: what accumulates, and what comes back."""

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
STAY: tuple[str, ...] = ()  # general columns that a narrow table keeps beside COLUMNS: none, as they average all states
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

    `step` is the number of the request, from 1, and `request` the concepts that it asked to forget. `since` is the
    number of the request that asked to forget `concept`, at most `step`. `ua` is 100 - accuracy of `concept` after
    `step`, in %, on `n` images.
    """
    numbers, rows = cell_columns.request_numbers(results), []
    for result in results:
        if (step := result.step) is None:
            continue
        head = (result.method, step.sequence, result.seed, step.number, cell_columns.words(step.request))
        for one in result.concepts:
            if one.role == "forget":
                since = cell_columns.since(result, one.concept, numbers)
                rows.append((*head, one.concept, since, 100 - 100 * one.accuracy, one.n))
    return pd.DataFrame(rows, columns=list(MATRIX))


def along(cells: pd.DataFrame) -> pd.DataFrame:
    """From cells to one row for each method and step of its sequences, with the means of its figures after that step.

    `request` has the concepts that the step asks to forget. If chains ask for different concepts, " / " separates them.
    Then come NAME, NAME_lo and NAME_hi, over chains, of each of UA, NRA, ORA, TWIN, DRIFT and H that was measured.
    `seconds` is the time that all requests up to this step took, a mean over chains and seeds. A method has a row for a
    step only if all requests up to that step are finished in all of its chains. The table is empty without a sequence.
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
    """The cells that are requests of a sequence. The result is empty if no cell is one."""
    if "chain" not in cells:
        return cells.iloc[:0].assign(chain="", step=0, request="")
    return cells[cells["chain"].notna()]


def last(cells: pd.DataFrame, of_board: pd.DataFrame) -> pd.DataFrame:
    """The rows of `cells` that are the last request of their sequence. `of_board` has all cells of the board."""
    steps, length = requests(cells), requests(of_board).groupby("chain")["step"].max()
    return steps[steps["step"] == steps["chain"].map(length)]


def seconds(cells: pd.DataFrame) -> Interval:
    """Seconds that all requests of a sequence took together: the mean over chains and seeds of one method's cells.

    There is no value if seconds were not counted for a cell, as for an oracle.
    """
    if cells["seconds"].isna().any():
        return statistics.NONE
    return statistics.of_cells(clusters.keyed(cells.groupby(PLACE)[["seconds"]].sum()), low=0)


def returns(matrix: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """Of one method's `matrix`, for each chain and seed: the largest fall of a concept's UA, in pp, at least 0.

    The fall is the UA right after the concept's own request, minus the lowest UA after any request from then on.
    """
    place = [*PLACE, "concept"]
    at_request = matrix[matrix["step"] == matrix["since"]].set_index(place)["ua"]
    fallen = (at_request - matrix.groupby(place)["ua"].min()).rename("fall").reset_index()
    return clusters.keyed(fallen.groupby(PLACE)[["fall"]].max())


def kept(cells: pd.DataFrame, concepts: pd.DataFrame) -> tuple[dict[statistics.Cell, list[float]], int | None]:
    """Accuracy in % on all images of retained concepts, by chain and seed of `last` cells; and their number."""
    place = ["task", "seed"]
    rows = concepts[concepts["role"] != "forget"].merge(cells[[*place, "chain"]], on=place)
    sums = rows.assign(right=rows["accuracy"] * rows["n"]).groupby(PLACE)[["right", "n"]].sum()
    share = (sums["right"].astype(float) / sums["n"].astype(float)).to_frame()
    return clusters.keyed(share), int(sums["n"].sum()) if len(sums) else None


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The columns of one method: those of `COLUMNS` that were measured. There are no columns without a sequence.

    Clusters are chains, each with its seeds. Figures of whole sequences have no value if a request is missing.
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
