"""Retention against forgetting during training. Methods are compared where their UA is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.board import statistics
from bench.board.statistics import Interval
from bench.core.results import CellResult
from metrics import METRICS

UA = 90.0  # %; methods are compared where they first reach this UA
HEAD = ("method", "task", "band", "seed", "part")


def frame(results: Sequence[CellResult], metrics: Sequence[str]) -> pd.DataFrame:
    """One row for each checkpoint of each cell that has a curve.

    `part` is the part of the training that was done, from 0 to 1. Then come each metric that is measured at checkpoints
    (NAME) and its number of images (NAME_n). Cells that train an unlearned model further are left out.
    `bench.board.relearning` has their points.
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
    """One row for each method and part of the training, with the mean of each figure over cells and its interval.

    Args:
        points: table from `frame`.

    The columns are `method`, `part`, and NAME, NAME_lo and NAME_hi of each metric.
    """
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
    """The figure `name` of one method where its UA first reaches 90 %, and the number of images behind the figure.

    The method's curve is the mean over tasks. The lines between checkpoints are straight. The value is NaN if the curve
    never reaches 90 %.

    Args:
        points: rows of one method in the table from `frame`.
        name: name of a retention metric.
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
    """The retention where UA first reaches `UA`, float (...). NaN where UA never reaches it.

    Args:
        means: UA at p checkpoints, then retention at the same checkpoints, in %: float (..., 2p).
    """
    ua, kept = np.split(means, 2, axis=-1)
    return where(ua, kept, np.asarray(UA))


def where(rising: np.ndarray, read: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The value of `read` where `rising` first reaches `level`, float (...). NaN where it never reaches the level.

    Both curves are straight between neighbouring points. A curve that starts at or above the level reaches it at the
    first point.

    Args:
        rising: the curve that reaches the level, float (..., p).
        read: the curve that the value is taken from, of the shape of `rising` or broadcast to it.
        level: the level, float, broadcast to (...).
    """
    level, read = np.broadcast_to(level, rising.shape[:-1]), np.broadcast_to(read, rising.shape)
    there = rising >= level[..., None]
    last = there.argmax(-1)[..., None]
    before = np.maximum(last - 1, 0)
    u0, u1, k0, k1 = (np.take_along_axis(of, at, -1)[..., 0] for of in (rising, read) for at in (before, last))
    with np.errstate(invalid="ignore", divide="ignore"):
        way = np.where(u1 > u0, (level - u0) / (u1 - u0), 1.0)
    return np.where(there.any(-1), k0 + way * (k1 - k0), np.nan)
