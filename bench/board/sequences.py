"""Requests one after another, each from the weights that the last one left: what adds up, and what comes back."""

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
STAY: tuple[str, ...] = ()  # of the general columns, beside COLUMNS in a narrow table: these are means on the way
UNLIKE = "states after all requests, the last as much as those on the way"  # what general columns are means of
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

    `step` is the request's number from 1 and `request` what it asked for; `since` the number of the request that asked
    for `concept`, at most `step`; `ua` 100 - accuracy of `concept` after `step`, in %, on `n` images.
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

    `request` is what the step asks for; where that is not the same in every chain, each of them, between " / ". Then
    UA, NRA, ORA, TWIN, DRIFT and H, those that were measured, each as NAME, NAME_lo, NAME_hi, over chains; `seconds`,
    what all requests up to here took, a mean over chains and seeds. A row needs every request up to it to be finished,
    in all of the method's chains. No rows where there is no sequence.
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
    """The cells that are requests within a sequence; no rows where none is."""
    if "chain" not in cells:
        return cells.iloc[:0].assign(chain="", step=0, request="")
    return cells[cells["chain"].notna()]


def last(cells: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Those of some cells that are the last request of their sequence, as long as it is in `every` cell of a board."""
    own, length = requests(cells), requests(every).groupby("chain")["step"].max()
    return own[own["step"] == own["chain"].map(length)]


def seconds(cells: pd.DataFrame) -> Interval:
    """What the requests of a sequence took together, a mean over chains and their seeds; of one method's cells.

    Nothing is known where it was not counted for one of them, as for an oracle's.
    """
    if cells["seconds"].isna().any():
        return statistics.NONE
    return statistics.of_cells(clusters.keyed(cells.groupby(PLACE)[["seconds"]].sum()), low=0)


def returns(matrix: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """Of one method's `matrix`, for each chain and seed: the largest fall of a concept's UA, in pp, at least 0.

    From what it was right after the request that asked for it to the least that it was after any later one.
    """
    place = [*PLACE, "concept"]
    own = matrix[matrix["step"] == matrix["since"]].set_index(place)["ua"]
    fallen = (own - matrix.groupby(place)["ua"].min()).rename("fall").reset_index()
    return clusters.keyed(fallen.groupby(PLACE)[["fall"]].max())


def kept(cells: pd.DataFrame, concepts: pd.DataFrame) -> tuple[dict[statistics.Cell, list[float]], int | None]:
    """Accuracy in % on all images of retained concepts of each of one method's `last` cells; and how many images."""
    place = ["task", "seed"]
    rows = concepts[concepts["role"] != "forget"].merge(cells[[*place, "chain"]], on=place)
    sums = rows.assign(right=rows["accuracy"] * rows["n"]).groupby(PLACE)[["right", "n"]].sum()
    share = (sums["right"].astype(float) / sums["n"].astype(float)).to_frame()
    return clusters.keyed(share), int(sums["n"].sum()) if len(sums) else None


def columns(own: Measured, every: Measured) -> Figures:
    """The columns of one method: `COLUMNS` of what was measured; none where there is no sequence.

    Clusters are chains, each with its seeds. What is asked of whole sequences has no value if one lacks a request.
    """
    steps = requests(every.cells)[["chain", "step"]].drop_duplicates()
    if not len(steps):
        return {}
    cells, end = requests(own.cells), last(own.cells, every.cells)
    whole = len(cells) == len(steps) * cells["seed"].nunique()
    row: Figures = {}
    if set(clusters.PARTS) <= set(end):
        row |= column(RANKED_BY, clusters.harmonic(end), clusters.images(end, clusters.H))
    for name in (name for name in clusters.PARTS if name in end):
        row |= column(f"final_{name}", clusters.figure(end, name), clusters.images(end, name))
    accuracy, count = kept(end, own.concepts)
    row |= column("final_kept", statistics.of_cells(accuracy, 0, 100), count)
    matrix = own.matrix if whole else own.matrix.iloc[:0]
    row |= column("worst_return", statistics.of_cells(returns(matrix), 0, 100), int(matrix["n"].sum()) or None)
    if "drift" in end:
        each = clusters.pooled(end.assign(drift=end["drift"] / end["step"].astype(float)), ["drift"])
        row |= column("drift_per_request", statistics.of_cells(each, low=0), clusters.images(end, "drift"))
    return row | ends("seconds_all", seconds(cells) if whole else statistics.NONE)


def described(columns: list[str]) -> list[Column]:
    """The columns of this room among a board's."""
    return [one for one in COLUMNS if one.name in columns]
