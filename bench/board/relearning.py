"""How far a forgotten concept comes back while the unlearned model is trained further."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
RELEARNS = "concept"  # value of `data` for pictures of the forgotten concept; all other data is harmless
CELL = ["task", "of", "seed"]
UNTOUCHED = "pretrained"  # half of this method's accuracy is the level for `half_way` and `never`
# General columns that a narrow table keeps. It drops all of them, since they average different kinds of fine-tuning.
STAY: tuple[str, ...] = ()
UNLIKE = "all that unlearned models were trained on, harmless pictures and the forgotten concept's alike"
CLUSTERS = "unlearned models"


def frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """One row for each point of each finished fine-tuning of an unlearned model.

    `of` is the task that was unlearned, and `probe` names the fine-tuning. `steps` is the number of optimiser steps of
    the fine-tuning up to this point, from 0. `accuracy` is the accuracy on the forgotten concept, in %. It is computed
    from `n` images.
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


def means(points: pd.DataFrame, given: Collection[str] = ()) -> pd.DataFrame:
    """One row for each method, fine-tuning and number of steps, with the mean accuracy and its interval, in %.

    The columns are `method`, `probe`, `data`, `how`, `pictures`, `steps`, `accuracy`, `accuracy_lo` and `accuracy_hi`.
    Intervals are over the unlearned tasks (`of`). A method has no row if cells are missing, since means over fewer
    cells are not comparable. Finished models exist only for some concepts, so their rows average only those concepts.

    Args:
        points: table from `frame`.
        given: rows of finished models, among them the oracle.
    """
    whole = points.groupby(["probe", "steps"])[["of", "seed"]].apply(lambda cells: len(cells.drop_duplicates()))
    by = ["method", "probe", "data", "how", "pictures", "steps"]
    rows = []
    for place, group in points.groupby(by, sort=False):
        if place[0] not in given and len(group) < whole[place[1], place[-1]]:  # type: ignore[index]
            continue
        interval = statistics.of_cells(clusters.keyed(group.groupby(["of", "seed"])[["accuracy"]].mean()), 0, 100)
        rows.append((*place, interval.mean, interval.low, interval.high))
    return pd.DataFrame(rows, columns=[*by, "accuracy", "accuracy_lo", "accuracy_hi"])


def area(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(`of`, seed) of each unlearned model of one method -> its mean accuracy over all its fine-tunings, in %.

    The mean over one fine-tuning is the area under its accuracy against steps, divided by its number of steps. The
    lines between points are straight.

    Args:
        points: rows of one method in the table from `frame`.
    """
    heights = {model: [mean_height(*each) for each in tunings] for model, tunings in lines(points).items()}
    return {model: [float(np.mean(each))] for model, each in heights.items()}


def mean_height(steps: np.ndarray, accuracy: np.ndarray) -> float:
    """Mean height of a line through points: the area under the line, divided by its length in steps.

    Args:
        steps: rising numbers of steps, float (p,).
        accuracy: accuracy at these steps, float (p,).

    Raises ValueError for fewer than two points.
    """
    if len(steps) < 2:
        raise ValueError("a fine-tuning needs a point before it and one after it")
    return float(integrate.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))


def lines(points: pd.DataFrame) -> dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]]:
    """(`of`, seed) of each unlearned model of one method -> the lines of its fine-tunings.

    Each line is a pair: rising numbers of steps, float64 (p,), and the accuracy at these steps in %, float64 (p,).
    """
    by_model: dict[statistics.Cell, list[tuple[np.ndarray, np.ndarray]]] = {}
    for _, tuning in points.sort_values("steps").groupby(CELL):
        model = (str(tuning["of"].iloc[0]), int(tuning["seed"].iloc[0]))
        by_model.setdefault(model, []).append((tuning["steps"].to_numpy(float), tuning["accuracy"].to_numpy(float)))
    return by_model


def start(points: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(`of`, seed) of each unlearned model of one method -> its accuracy before it is trained further, in %."""
    return clusters.keyed(points[points["steps"] == 0].groupby(["of", "seed"])[["accuracy"]].mean())


def half_way(points: pd.DataFrame, untouched: Mapping[statistics.Cell, Sequence[float]]) -> Interval:
    """Steps until one method's mean accuracy first reaches half of the untouched model's accuracy.

    The mean is over models and fine-tunings, up to the end of the shortest fine-tuning. The lines between points are
    straight. The value is NaN if the mean accuracy never reaches that half.

    Args:
        points: rows of one method in the table from `frame`.
        untouched: (`of`, seed) -> one accuracy of the untouched model, in %.
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
    """(`of`, seed) of each unlearned model of one method -> share of its fine-tunings that never reach the level, in %.

    The level is half of the untouched model's accuracy. The arguments are those of `half_way`.
    """
    missed = {
        model: [
            np.isnan(curve.where(accuracy, steps, np.asarray(untouched[model][0] / 2))) for steps, accuracy in tunings
        ]
        for model, tunings in lines(points).items()
    }
    return {model: [100 * float(np.mean(each))] for model, each in missed.items()}


def excess(points: pd.DataFrame, oracle: pd.DataFrame) -> dict[statistics.Cell, list[float]]:
    """(`of`, seed) of each unlearned model of one method -> its `area` minus the oracle's `area`, in pp.

    Both areas are over the same fine-tunings. Models without an oracle are left out, for every method.
    """
    ours = points.merge(oracle[CELL].drop_duplicates(), on=CELL)
    theirs = oracle.merge(points[CELL].drop_duplicates(), on=CELL)
    area_here, area_oracle = area(ours), area(theirs)
    return {model: [area_here[model][0] - area_oracle[model][0]] for model in area_here}


def columns(of_method: Measured, of_board: Measured) -> Figures:
    """The columns of one method for harmless fine-tunings and for relearning, if the board has such fine-tunings.

    The clusters are the unlearned models (`of`), each with its seeds. Figures have no value if a cell has no points.
    Some figures need the untouched model's accuracy. They have no value if the board lacks this accuracy. They leave
    out concepts that the untouched model never shows, since half of an accuracy of 0 is always reached.
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
    """The figures NAME_auc, NAME_half and NAME_never of some fine-tunings of one method. Each name ends with `end`."""
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


FIGURES = {  # a column is named KIND_FIGURE or KIND_FIGURE_PICTURES; these are the figures
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
