"""How far a forgotten concept comes back while the unlearned model is trained further."""

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
RELEARNS = "concept"  # the `data` that shows the forgotten concept; all other data is harmless
CELL = ["task", "of", "seed"]
UNTOUCHED = "pretrained"  # half of this method's accuracy is the level that is to be reached
STAY: tuple[str, ...] = ()  # general columns that a narrow table keeps: none, as they average unlike fine-tunings
UNLIKE = "all that unlearned models were trained on, harmless pictures and the forgotten concept's alike"
CLUSTERS = "unlearned models"


def frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row for each point of each finished fine-tuning of an unlearned model.

    `of` is the task that was unlearned, `probe` a name for the fine-tuning, and `steps` the number of its steps that
    were done, from 0. `accuracy` is that on the forgotten concept, in %, on `n` images.
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

    Intervals are over the unlearned tasks (`of`). A method has no row if cells are missing, since a mean over fewer
    cells could not be compared. The oracle exists for some concepts only, so its rows average only those.
    """
    whole = points.groupby(["probe", "steps"])[["of", "seed"]].apply(lambda cells: len(cells.drop_duplicates()))
    by = ["method", "probe", "data", "how", "pictures", "steps"]
    rows = []
    for place, group in points.groupby(by, sort=False):
        if place[0] != ORACLE and len(group) < whole[place[1], place[-1]]:  # type: ignore[index]
            continue
        interval = statistics.of_cells(clusters.keyed(group.groupby(["of", "seed"])[["accuracy"]].mean()), 0, 100)
        rows.append((*place, interval.mean, interval.low, interval.high))
    return pd.DataFrame(rows, columns=[*by, "accuracy", "accuracy_lo", "accuracy_hi"])


def area(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model (`of`, seed) of one method: mean accuracy over its fine-tunings, in %.

    The mean over a fine-tuning is the area under accuracy against steps, divided by the number of steps. Lines between
    points are straight.
    """
    heights = {model: [mean_height(*each) for each in tunings] for model, tunings in lines(points).items()}
    return {model: [float(np.mean(each))] for model, each in heights.items()}


def mean_height(steps: np.ndarray, accuracy: np.ndarray) -> float:
    """Area under a line through points, (p,) each, by its length. Raises ValueError for fewer than two points."""
    if len(steps) < 2:
        raise ValueError("a fine-tuning needs a point before it and one after it")
    return float(integrate.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))


def lines(points: pd.DataFrame) -> dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]]:
    """For each unlearned model of one method: steps, rising, and accuracy of each of its fine-tunings, float (p,)."""
    by_model: dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]] = {}
    for _, tuning in points.sort_values("steps").groupby(CELL):
        model = (str(tuning["of"].iloc[0]), int(tuning["seed"].iloc[0]))
        by_model.setdefault(model, []).append((tuning["steps"].to_numpy(float), tuning["accuracy"].to_numpy(float)))
    return by_model


def start(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model (`of`, seed) of one method: its accuracy before it is trained further, in %."""
    return clusters.keyed(points[points["steps"] == 0].groupby(["of", "seed"])[["accuracy"]].mean())


def half_way(points: pd.DataFrame, untouched: Mapping[statistics.Cell, Sequence[float]]) -> Interval:
    """Steps until one method's mean accuracy first reaches half of the untouched model's; no value if it never does.

    The accuracy is a mean over models and fine-tunings, up to the end of the shortest fine-tuning. Lines between points
    are straight.
    """
    each = lines(points)
    if not each:
        return statistics.NONE
    end = min(steps[-1] for tunings in each.values() for steps, _ in tunings)
    at = np.unique([s for tunings in each.values() for steps, _ in tunings for s in steps if s <= end])
    table = {
        model: [*np.mean([np.interp(at, *each) for each in tunings], axis=0), untouched[model][0] / 2]
        for model, tunings in each.items()
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
        model: [
            np.isnan(curve.where(accuracy, steps, np.asarray(untouched[model][0] / 2))) for steps, accuracy in tunings
        ]
        for model, tunings in lines(points).items()
    }
    return {model: [100 * float(np.mean(each))] for model, each in missed.items()}


def excess(points: pd.DataFrame, oracle: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """For each unlearned model of one method: how much its `area` exceeds the oracle's on the same fine-tunings, in pp.

    Models for which there is no oracle are left out, for every method.
    """
    ours = points.merge(oracle[CELL].drop_duplicates(), on=CELL)
    theirs = oracle.merge(points[CELL].drop_duplicates(), on=CELL)
    area_here, area_oracle = area(ours), area(theirs)
    return {model: [area_here[model][0] - area_oracle[model][0]] for model in area_here}


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The columns of one method for harmless fine-tunings and for relearning, if the board has such fine-tunings.

    Clusters are the unlearned models (`of`), each with its seeds. Figures have no value if a cell has no points.
    Figures that need the untouched model's accuracy have no value if the board lacks it. They leave out concepts that
    the untouched model never shows, as half of an accuracy of 0 is always reached.
    """
    row: Figures = {}
    recovered = of_board.recovered
    whole = len(of_method.recovered.drop_duplicates(CELL)) == (
        of_method.cells["probe"].notna().sum() if "probe" in of_method.cells else 0
    )
    points = of_method.recovered if whole else of_method.recovered.iloc[:0]
    relearns = recovered["data"] == RELEARNS
    untouched = start(recovered[recovered["method"] == UNTOUCHED])
    if (~relearns).any():
        harmless = points[points["data"] != RELEARNS]
        row |= column(
            "back_from", statistics.of_cells(start(harmless), 0, 100), _images(harmless[harmless["steps"] == 0])
        )
        row |= _kind("back", "", harmless, untouched)
    if relearns.any():
        shown = points[points["data"] == RELEARNS]
        row |= _kind("relearn", "", shown, untouched)
        oracle = recovered[(recovered["method"] == ORACLE) & relearns]
        if len(oracle):
            both = shown.merge(oracle[CELL].drop_duplicates(), on=CELL)
            row |= column("relearn_excess", statistics.of_cells(excess(shown, oracle), -100, 100), _images(both))
        for pictures in sorted(recovered.loc[relearns, "pictures"].unique()):
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
    """The columns of this module among the `columns` of a board."""
    kinds = {"back": "harmless fine-tunings", "relearn": "relearning from a few of its pictures"}
    shown = []
    for name in columns:
        kind, _, rest = name.partition("_")
        figure, _, pictures = rest.partition("_")
        if kind not in kinds or figure not in FIGURES or not (pictures.isdigit() or pictures == ""):
            continue
        where = f"relearning from {pictures} of its pictures" if pictures else kinds[kind]
        column = FIGURES[figure]
        headline = column.headline and not pictures
        shown.append(replace(column, name=name, about=column.about.format(where), headline=headline))
    return shown


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
