"""What comes back of a forgotten concept while the unlearned model is trained further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import integrate

from bench.board import clusters, curve, statistics
from bench.board.columns import Figures, Measured, column
from bench.board.statistics import Interval
from bench.core.results import CellResult
from methods import ORACLE
from metrics import Column

HEAD = ("method", "task", "of", "probe", "data", "how", "pictures", "seed")
RELEARNS = "concept"  # the `data` that shows what was forgotten; all others are harmless
CELL = ["task", "of", "seed"]
UNTOUCHED = "pretrained"  # the method whose accuracy a half is of
STAY: tuple[str, ...] = ()  # of the general columns, in a narrow table: these mix all that models were trained on
UNLIKE = "all that unlearned models were trained on, harmless pictures and the forgotten concept's alike"  # that is
CLUSTERS = "unlearned models"


def frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row for each point of each finished fine-tuning of an unlearned model.

    `of` is the task that unlearned, `probe` how the model was trained further, for people; `steps` how many steps of
    that were done, from 0 up; `accuracy` on the forgotten concept, in %, on `n` images.
    """
    rows = []
    for result in results:
        if (probe := result.probe) is None:
            continue
        for point in result.curve or ():
            ua = point.scores.get("ua")
            if ua is None:  # the run measured other metrics
                continue
            head = (result.method, result.task, probe.unlearned_task, result.band, probe.data, probe.how)
            figures = (point.part * probe.steps, 100 - 100 * ua.value, ua.n)
            rows.append((*head, probe.pictures, result.seed, *figures))
    return pd.DataFrame(rows, columns=[*HEAD, "steps", "accuracy", "n"])


def means(points: pd.DataFrame) -> pd.DataFrame:
    """From `frame` to one row for each method, fine-tuning and number of steps: `accuracy` in % with _lo and _hi.

    Intervals are over what was unlearned (`of`). A method of which cells are missing has no row there: its mean over
    the others would not compare. The oracle, which some concepts have none of, stands for those that it has.
    """
    whole = points.groupby(["probe", "steps"])[["of", "seed"]].apply(lambda own: len(own.drop_duplicates()))
    by = ["method", "probe", "data", "how", "pictures", "steps"]
    rows = []
    for place, group in points.groupby(by, sort=False):
        if place[0] != ORACLE and len(group) < whole[place[1], place[-1]]:  # type: ignore[index]
            continue
        found = statistics.of_cells(clusters.keyed(group.groupby(["of", "seed"])[["accuracy"]].mean()), 0, 100)
        rows.append((*place, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=[*by, "accuracy", "accuracy_lo", "accuracy_hi"])


def area(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model (`of`, seed) of one method: mean accuracy over its fine-tunings, in %.

    Of each fine-tuning the area under accuracy against steps, straight between points, by the number of steps.
    """
    heights = {model: [mean_height(*each) for each in own] for model, own in lines(points).items()}
    return {model: [float(np.mean(each))] for model, each in heights.items()}


def mean_height(steps: np.ndarray, accuracy: np.ndarray) -> float:
    """The area under a line through points, (p,) each, by its length. Raises ValueError for fewer than two points."""
    if len(steps) < 2:
        raise ValueError("a fine-tuning needs a point before it and one after it")
    return float(integrate.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))


def lines(points: pd.DataFrame) -> dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]]:
    """For each unlearned model of one method: steps, rising, and accuracy of each of its fine-tunings, float (p,)."""
    found: dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]] = {}
    for _, own in points.sort_values("steps").groupby(CELL):
        model = (str(own["of"].iloc[0]), int(own["seed"].iloc[0]))
        found.setdefault(model, []).append((own["steps"].to_numpy(float), own["accuracy"].to_numpy(float)))
    return found


def start(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model (`of`, seed) of one method: its accuracy before it is trained further, in %."""
    return clusters.keyed(points[points["steps"] == 0].groupby(["of", "seed"])[["accuracy"]].mean())


def half_way(points: pd.DataFrame, untouched: Mapping[statistics.Cell, Sequence[float]]) -> Interval:
    """Steps until one method's mean accuracy first reaches half of the untouched model's; no value if it never does.

    Means over models and fine-tunings, straight between points, up to the end of the shortest.
    """
    each = lines(points)
    if not each:
        return statistics.NONE
    end = min(steps[-1] for own in each.values() for steps, _ in own)
    at = np.unique([s for own in each.values() for steps, _ in own for s in steps if s <= end])
    table = {
        model: [*np.mean([np.interp(at, *each) for each in own], axis=0), untouched[model][0] / 2]
        for model, own in each.items()
    }
    return statistics.interval(
        statistics.clusters(table),
        lambda means: curve.where(means[..., :-1], at, means[..., -1]),
        low=0,
        high=float(end),
    )


def never(
    points: pd.DataFrame, untouched: Mapping[statistics.Cell, Sequence[float]]
) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model of one method: share of its fine-tunings that end before accuracy reaches that half."""
    missed = {
        model: [np.isnan(curve.where(accuracy, steps, np.asarray(untouched[model][0] / 2))) for steps, accuracy in own]
        for model, own in lines(points).items()
    }
    return {model: [100 * float(np.mean(each))] for model, each in missed.items()}


def excess(points: pd.DataFrame, oracle: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model of one method: how much its `area` exceeds the oracle's on the same fine-tunings, in pp.

    Models that the oracle has not are left out, for every method alike.
    """
    ours = points.merge(oracle[CELL].drop_duplicates(), on=CELL)
    theirs = oracle.merge(points[CELL].drop_duplicates(), on=CELL)
    own, other = area(ours), area(theirs)
    return {cell: [own[cell][0] - other[cell][0]] for cell in own}


def columns(own: Measured, every: Measured) -> Figures:
    """The columns of one method, of harmless fine-tunings and of relearning, those that some model went through.

    Clusters are the unlearned models (`of`), each with its seeds. No value where a cell has no points, and none that
    needs the untouched model's accuracy where the board lacks it. A concept that the untouched model never shows has
    nothing that could come back half: it counts for no method there.
    """
    row: Figures = {}
    found = every.recovered
    whole = len(own.recovered.drop_duplicates(CELL)) == (
        own.cells["probe"].notna().sum() if "probe" in own.cells else 0
    )
    points = own.recovered if whole else own.recovered.iloc[:0]
    relearns = found["data"] == RELEARNS
    untouched = start(found[found["method"] == UNTOUCHED])
    if (~relearns).any():
        harmless = points[points["data"] != RELEARNS]
        row |= column(
            "back_from", statistics.of_cells(start(harmless), 0, 100), _images(harmless[harmless["steps"] == 0])
        )
        row |= _kind("back", "", harmless, untouched)
    if relearns.any():
        shown = points[points["data"] == RELEARNS]
        row |= _kind("relearn", "", shown, untouched)
        oracle = found[(found["method"] == ORACLE) & relearns]
        if len(oracle):
            both = shown.merge(oracle[CELL].drop_duplicates(), on=CELL)
            row |= column("relearn_excess", statistics.of_cells(excess(shown, oracle), -100, 100), _images(both))
        for pictures in sorted(found.loc[relearns, "pictures"].unique()):
            row |= _kind("relearn", f"_{pictures}", shown[shown["pictures"] == pictures], untouched)
    return row


def _kind(name: str, end: str, points: pd.DataFrame, untouched: dict[statistics.Cell, list[float]]) -> Figures:
    """NAME_auc, NAME_half and NAME_never of some fine-tunings of one method."""
    cells = list(zip(points["of"], points["seed"], strict=True))
    known = all(cell in untouched for cell in cells)
    half = points[np.array([known and untouched[cell][0] > 0 for cell in cells], dtype=bool)]
    row = column(f"{name}_auc{end}", statistics.of_cells(area(points), 0, 100), _images(points))
    row |= column(f"{name}_half{end}", half_way(half, untouched), _images(half))
    return row | column(f"{name}_never{end}", statistics.of_cells(never(half, untouched), 0, 100), _images(half))


def _images(points: pd.DataFrame) -> int | None:
    return int(points["n"].sum()) or None


def described(columns: list[str]) -> list[Column]:
    """The columns of this room among a board's."""
    kinds = {"back": "harmless fine-tunings", "relearn": "relearning from a few of its pictures"}
    found = []
    for name in columns:
        kind, _, rest = name.partition("_")
        figure, _, pictures = rest.partition("_")
        if kind not in kinds or figure not in FIGURES or not (pictures.isdigit() or pictures == ""):
            continue
        where = f"relearning from {pictures} of its pictures" if pictures else kinds[kind]
        column = FIGURES[figure]
        headline = column.headline and not pictures
        found.append(replace(column, name=name, about=column.about.format(where), headline=headline))
    return found


FIGURES = {  # the name of a column has what came back before it, and perhaps a number of pictures behind it
    column.name: column
    for column in (
        Column("from", "accuracy on the forgotten concept before {}", "%", "lower"),
        Column("auc", "mean accuracy on the forgotten concept over the steps of {}", "%", "lower"),
        Column(
            "half",
            "steps of {} until its mean accuracy is half of the untouched model's; blank: never",
            "steps",
            "higher",
        ),
        Column("never", "share of {} that end before that half is reached", "%", "higher", headline=False),
        Column("excess", "how much that mean exceeds the oracle's, which never knew the concept, in {}", "pp", "lower"),
    )
}
