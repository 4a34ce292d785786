"""Requests one after another, each from the weights that the last one left: what adds up, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench import clusters, statistics

MATRIX = ("method", "chain", "seed", "step", "request", "concept", "since", "ua", "n")
ALONG = ("ua", "nra", "ora", "twin", "drift")


def asked_at(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    """(chain, concept) -> number of the request that asked for it to be forgotten."""
    steps = [result["step"] for result in results if result.get("step")]
    return {(step["chain"], concept): step["number"] for step in steps for concept in step["request"]}


def words(request: Sequence[str]) -> str:
    """A request as tables have it."""
    return ", ".join(request)


def matrix(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each finished request of a sequence and each concept forgotten by then.

    `step` is the request's number from 1 and `request` what it asked for; `since` the number of the request that asked
    for `concept`, at most `step`; `ua` 100 - accuracy of `concept` after `step`, in %, on `n` images.
    """
    since, rows = asked_at(results), []
    for result in results:
        if (step := result.get("step")) is None:
            continue
        for row in result.get("concepts", ()):
            if row["role"] == "forget":
                head = (result["method"], step["chain"], result["seed"], step["number"], words(step["request"]))
                first = since[step["chain"], row["concept"]]
                rows.append((*head, row["concept"], first, 100 - 100 * row["accuracy"], row["n"]))
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
    own = cells[cells["chain"].notna()] if "chain" in cells else cells.iloc[:0]
    for method, group in own.groupby("method", sort=False):
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


def seconds(cells: pd.DataFrame) -> statistics.Interval:
    """What the requests of a sequence took together, a mean over chains and their seeds; of one method's cells."""
    return statistics.of_cells(clusters.keyed(cells.groupby(["chain", "seed"])[["seconds"]].sum()), low=0)
