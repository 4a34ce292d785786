"""The charts of a page: the rows of each chart and its switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.board import curve, ripple
from bench.report.charts import labels, vega_lite
from bench.report.charts.colours import Look
from bench.report.charts.pareto import front
from methods import REFERENCES
from metrics import METRICS

RETENTION = ("nra", "twin", "ora")
COSTS = {"seconds": ("seconds of unlearning a task ↓", 1.0), "peak_bytes": ("peak memory, MB ↓", 1e-6),
         "delta_bytes": ("weights changed, MB ↓", 1e-6)}  # fmt: skip
COST_NAMES = {"seconds": "seconds", "peak_bytes": "memory", "delta_bytes": "bytes changed"}
ROUND = 3  # decimals of drawn values; the error is at most half a pixel


@dataclass
class Figure:
    """A chart with its variants.

    Args:
        choices: name of a switch -> its values with their labels.
        specs: values of all switches, joined by "/" -> Vega-Lite specification.
        notes: values of all switches, joined by "/" -> a sentence below the chart.
        missing: the reason why there is no chart; "" if there is one.
    """

    choices: dict[str, dict[str, str]] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: str = ""


def title(name: str) -> str:
    """A metric's name with its unit and direction."""
    if name == "h":
        return "H, % ↑"
    column = METRICS.get(name).column
    return f"{name.upper()}{', ' + column.unit if column.unit else ''} {column.arrow}"


def tradeoff(
    board: pd.DataFrame,
    points: pd.DataFrame,
    looks: dict[str, Look],
    reported: Mapping[str, vega_lite.Rows] | None = None,
) -> Figure:
    """The chart of forgetting against retention, along the training if a curve was measured.

    Args:
        reported: retention metric -> points from `bench.report.page.reported`. They are never on the Pareto front.
    """
    good = _good(board)
    kinds = [name for name in RETENTION if name in good and good[name].notna().any()]
    if "ua" not in good or good["ua"].isna().all() or not kinds:
        return Figure(missing="This needs UA and one of NRA, TWIN and ORA of a method that finished.")
    along = curve.means(points)
    trained = {name: [*_trails(along, name, looks), *_steps(good, name, looks)] for name in kinds}
    views = {"end": "after training"}
    if any(trained.values()):
        views["way"] = "and on the way"
    figure = Figure({"retention": {name: name.upper() for name in kinds}, "view": views})
    for name in kinds:
        beside = (reported or {}).get(name, [])
        known = good.dropna(subset=["ua", name])
        placed = labels.at_points([*(_point(row, "ua", name, looks) for row in known.to_dict("records")), *beside])
        rows, hollow = ([row for row in placed if ("source" in row) is found] for found in (False, True))
        best = front(_of_most_cells(known), "ua", name)
        line = [{"x": p["x"], "y": p["y"]} for m in best for p in rows if p["method"] == m]
        for view in views:
            about = f"Unlearning accuracy against {name.upper()} of {len(rows)} methods, with 95 % intervals"
            words = {"$x": title("ua"), "$y": title(name), "$about": about}
            data = {"points": rows, "front": line, "curves": trained[name] if view == "way" else []}
            data |= {"reported": hollow} if hollow else {}
            figure.specs[f"{name}/{view}"] = vega_lite.filled(vega_lite.tradeoff(beside=bool(hollow)), data, words)
            aside = " Hollow and grey: reported by papers, not measured here." if hollow else ""
            figure.notes[f"{name}/{view}"] = f"On the Pareto front: {', '.join(best)}.{aside}"
    return figure


def _good(board: pd.DataFrame) -> pd.DataFrame:
    return board[(board["status"] == "ok") & ~board["method"].isin(REFERENCES)]


def _of_most_cells(board: pd.DataFrame) -> pd.DataFrame:
    """The rows that can be compared: finished models may have fewer cells than methods, and so other means."""
    return board[board["cells"] == board["cells"].max()] if "cells" in board else board


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), ROUND)


def _words(row: dict[Any, Any], name: str) -> str:
    low, high = _number(row.get(f"{name}_lo")), _number(row.get(f"{name}_hi"))
    return f"{row[name]:.1f}" + ("" if low is None or high is None else f" ({low:.1f} – {high:.1f})")


def _point(row: dict[Any, Any], x: str, y: str, looks: dict[str, Look], scale: float = 1.0) -> dict[str, Any]:
    look = looks[row["method"]]
    point: dict[str, Any] = {"method": row["method"], "colour": look.css, "shape": look.shape}
    point |= {"spare": look.setting} if look.setting else {}
    for axis, name, by in (("x", x, scale), ("y", y, 1.0)):
        for end in ("", "_lo", "_hi"):
            value = _number(row.get(f"{name}{end}"))
            point[f"{axis}{end}"] = None if value is None else round(value * by, ROUND)
        point[f"{axis}_text"] = _words(row, name) if by == 1.0 else f"{row[name] * by:,.1f}"
    return point


def _trails(along: pd.DataFrame, name: str, looks: dict[str, Look]) -> vega_lite.Rows:
    if along.empty or name not in along:
        return []
    rows = along[along["method"].isin([method for method in looks if method not in REFERENCES])]
    return [
        {"method": row["method"], "part": row["part"], "x": _number(row["ua"]), "y": _number(row[name]),
         "colour": looks[row["method"]].css}
        for row in rows.dropna(subset=["ua", name]).to_dict("records")
    ]  # fmt: skip


def _steps(board: pd.DataFrame, name: str, looks: dict[str, Look]) -> vega_lite.Rows:
    """The rows of a finished model after several numbers of steps ("theirs@100"), as a trail like those of methods."""
    trails: dict[str, dict[int, dict[Any, Any]]] = {}
    given = board[board["fidelity"] == "given"] if "fidelity" in board else board.iloc[:0]
    for row in given.dropna(subset=["ua", name]).to_dict("records"):
        stem, at, step = row["method"].rpartition("@")
        if at and step.isdecimal():
            trails.setdefault(stem, {})[int(step)] = row
    return [
        {"method": stem, "part": step / max(steps), "x": _number(row["ua"]), "y": _number(row[name]),
         "colour": looks[steps[max(steps)]["method"]].css}
        for stem, steps in trails.items() if len(steps) > 1 for step, row in sorted(steps.items())
    ]  # fmt: skip


@dataclass
class Panels:
    """Small multiples: one figure for each method."""

    choices: dict[str, dict[str, str]] = field(default_factory=dict)
    panels: dict[str, Figure] = field(default_factory=dict)
    missing: str = ""


def near_to_far(dropped: pd.DataFrame, looks: dict[str, Look]) -> Panels:
    """The chart of the drop against the distance from the forgotten concept: a panel per method, on one scale."""
    known = ripple.distances(dropped)
    methods = [name for name in looks if name not in REFERENCES and (dropped["method"] == name).any()]
    kept = dropped[dropped["method"].isin(methods)]
    known = [name for name in known if kept[ripple.PREFIX + name].notna().any()]
    if not known or kept.empty:
        return Panels(missing="No retained concept of a method that finished has a distance from the forgotten one.")
    names = {name: {"text": "text encoder"}.get(name, name) for name in known}
    places = [ripple.PREFIX + name for name in known]
    out = Panels({"distance": names}, {name: Figure() for name in methods})
    means = kept.groupby(["method", "task", "concept"], sort=False)[["drop", *places]].mean().reset_index()
    low, high = float(min(means["drop"].min(), 0)), float(max(means["drop"].max(), 10))
    for name, column in zip(known, places, strict=True):
        profile = ripple.profile(kept, name, methods)
        left, right = float(means[column].min()), float(means[column].max())
        room = 0.03 * (right - left or 1)
        for method in methods:
            own = profile[profile["method"] == method]
            shared = {"method": method, "colour": looks[method].css}
            line = [
                {**shared, **{n: _number(v) for n, v in row.items() if n != "method"}, "interval": _between(row)}
                for row in own.to_dict("records")
            ]
            dots = [
                {**shared, "task": row["task"], "concept": row["concept"], "distance": _number(row[column]),
                 "drop": _number(row["drop"])}
                for row in means[means["method"] == method].dropna(subset=[column]).to_dict("records")
            ]  # fmt: skip
            about = f"Mean drop in accuracy of retained concepts against distance from the forgotten one, for {method}"
            words: dict[str, Any] = {
                "$x": f"distance ({names[name]})",
                "$about": about,
                "$x0": left - room,
                "$x1": right + room,
                "$y0": low - 3,
                "$y1": high + 3,
            }
            out.panels[method].specs[name] = vega_lite.filled(
                vega_lite.near_to_far(), {"profile": line, "dots": dots}, words
            )
    return out


def _between(row: dict[Any, Any]) -> str:
    low, high = _number(row["drop_lo"]), _number(row["drop_hi"])
    return "none" if low is None or high is None else f"{low:.1f} – {high:.1f}"


def heat(
    dropped: pd.DataFrame,
    targets: pd.DataFrame,
    tasks: Sequence[str],
    concepts: Sequence[str],
    groups: dict[str, str],
    looks: dict[str, Look],
) -> Panels:
    """The chart of the drop of each concept for each forgotten concept, a panel per method.

    Args:
        targets: `task` and `concept` of the forgotten concepts, which have a frame and no colour.
        groups: concept -> its domain.
    """
    methods = [name for name in looks if name not in REFERENCES and (dropped["method"] == name).any()]
    if not methods:
        return Panels(missing="No method besides the controls has a finished cell.")
    first = [c for before, c in pairwise(concepts) if groups.get(before) != groups.get(c)]
    columns = ["drop", "accuracy", "before"]
    framed: vega_lite.Rows = [
        {"task": str(r["task"]), "concept": str(r["concept"])} for r in targets.to_dict("records")
    ]
    means = dropped.groupby(["method", "task", "concept"], sort=False)[columns].mean().reset_index()
    out = Panels(panels={name: Figure() for name in methods})
    for method in methods:
        rows = [
            {"task": r["task"], "concept": r["concept"], "drop": _number(r["drop"]),
             "size": abs(_number(r["drop"]) or 0.0), "words": f"{r['accuracy']:.0f} %, from {r['before']:.0f} %"}
            for r in means[means["method"] == method].to_dict("records")
        ]  # fmt: skip
        about = f"Drop in accuracy of each evaluated concept (columns) in each task (rows), for {method}"
        data = {"cells": rows, "targets": framed, "edges": [{"concept": concept} for concept in first]}
        words = {"$about": about, "$tasks": list(tasks), "$concepts": list(concepts)}
        out.panels[method].specs[""] = vega_lite.filled(vega_lite.heat(), data, words)
    return out


def cost(board: pd.DataFrame, looks: dict[str, Look]) -> Figure:
    """The chart of quality against cost."""
    good = _good(board)
    wanted = ("h", "nra", "twin") if "h" in good and good["h"].notna().any() else ("ua", "nra", "twin")
    qualities = [name for name in wanted if name in good and good[name].notna().any()]
    costs = [name for name in COSTS if name in good and good[name].notna().any()]
    if good.empty or not qualities or not costs:
        return Figure(missing="This needs a quality (H, UA, NRA or TWIN) and the cost of a method that finished.")
    figure = Figure({"quality": {n: n.upper() for n in qualities}, "cost": {n: COST_NAMES[n] for n in costs}})
    for quality in qualities:
        for name in costs:
            label, scale = COSTS[name]
            known = good.dropna(subset=[name, quality])
            points = [_point(row, name, quality, looks, scale) for row in known.to_dict("records")]
            points = labels.at_points([{**p, "x_lo": 0.0} for p in points])  # the axis starts at 0
            words = {"$x": label, "$y": title(quality), "$about": f"{quality.upper()} against {COST_NAMES[name]}"}
            figure.specs[f"{quality}/{name}"] = vega_lite.filled(vega_lite.cost(), {"points": points}, words)
    return figure
