"""Retention against forgetting during training: methods are compared where they have forgotten equally much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.board import statistics
from bench.board.statistics import Interval
from bench.core.results import CellResult
from metrics import METRICS

UA = 90.0  # %, where methods are compared
HEAD = ("method", "task", "band", "seed", "part")


def frame(results: Sequence[CellResult], metrics: Sequence[str]) -> pd.DataFrame:
    """One row for each checkpoint of each cell that has a curve: how far its training was, 0 to 1, and its figures.

    Cells that train an unlearned model further are left out: `bench.board.relearning` has their points.
    """
    measured = [metric for metric in map(METRICS.get, metrics) if metric.along]
    rows = []
    for result in results:
        for point in () if result.probe else result.curve or ():
            row: dict[str, Any] = {name: getattr(result, name) for name in HEAD[:-1]} | {"part": point.part}
            for metric in measured:
                score = point.scores[metric.name]
                row[metric.name] = score and score.value * (100 if metric.unit == "%" else 1)
                row[f"{metric.name}_n"] = score and score.n
            rows.append(row)
    columns = [*HEAD, *(column for m in measured for column in (m.name, f"{m.name}_n"))]
    return pd.DataFrame(rows, columns=columns)


def means(points: pd.DataFrame) -> pd.DataFrame:
    """From `frame` to one row for each method and part: the means of its figures, with intervals NAME_lo, NAME_hi."""
    names = [name for name in map(str, points.columns) if name in METRICS]
    rows = []
    for (method, part), group in points.groupby(["method", "part"], sort=False):
        row: dict[str, Any] = {"method": method, "part": part}
        for name in names:
            known = group.dropna(subset=[name])
            cells = {(t, s): (v,) for t, s, v in zip(known["task"], known["seed"], known[name], strict=True)}
            interval = statistics.of_cells(cells, 0, 100)
            row |= {name: interval.mean, f"{name}_lo": interval.low, f"{name}_hi": interval.high}
        rows.append(row)
    return pd.DataFrame(rows, columns=["method", "part", *(n + end for n in names for end in ("", "_lo", "_hi"))])


def at_matched(points: pd.DataFrame, name: str) -> tuple[Interval, int]:
    """The figure `name` of one method where its UA first reaches 90 %, and the images it rests on; from `frame`.

    The method's curve is the mean over tasks, with straight lines between checkpoints. There is no value if the curve
    never reaches 90 %.
    """
    known = points.dropna(subset=["ua", name]).sort_values("part")
    cells = {
        (str(task), int(seed)): [*group["ua"], *group[name]]  # type: ignore[call-overload]
        for (task, seed), group in known.groupby(["task", "seed"])
    }
    if not cells:
        return statistics.NONE, 0
    interval = statistics.interval(statistics.clusters(cells), reaching, low=0, high=100)
    return interval, int(known[f"{name}_n"].sum())


def reaching(means: np.ndarray) -> np.ndarray:
    """The statistic: from UA and retention at p checkpoints, (..., 2p), retention where UA reaches `UA`; NaN: never."""
    ua, kept = np.split(means, 2, axis=-1)
    return where(ua, kept, np.asarray(UA))


def where(rising: np.ndarray, read: np.ndarray, level: np.ndarray) -> np.ndarray:
    """What `read`, (..., p), is where `rising`, (..., p), first reaches `level`, (...); NaN where it never does.

    Both go straight from point to point; what starts at the level or above reaches it at the first point.
    """
    level, read = np.broadcast_to(level, rising.shape[:-1]), np.broadcast_to(read, rising.shape)
    there = rising >= level[..., None]
    last = there.argmax(-1)[..., None]
    before = np.maximum(last - 1, 0)
    u0, u1, k0, k1 = (np.take_along_axis(of, at, -1)[..., 0] for of in (rising, read) for at in (before, last))
    with np.errstate(invalid="ignore", divide="ignore"):
        way = np.where(u1 > u0, (level - u0) / (u1 - u0), 1.0)
    return np.where(there.any(-1), k0 + way * (k1 - k0), np.nan)
