"""The chart of relearning: the accuracy of a forgotten concept while the unlearned model is trained further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.board.relearning import UNTOUCHED
from bench.report.charts import lines
from bench.report.charts.colours import Look
from bench.report.charts.figures import Figure
from methods import REFERENCES


def figure(means: pd.DataFrame, looks: Mapping[str, Look]) -> Figure | None:
    """The accuracy of the forgotten concept by steps of training, from `bench.board.relearning.means`.

    A switch chooses the data of the training. References are dashed. A rule lies at half of the pretrained model's
    accuracy. None without data.
    """
    rows = means[means["method"].isin(looks)].dropna(subset=["accuracy"])
    if rows[~rows["method"].isin(REFERENCES)].empty:
        return None
    probes = list(dict.fromkeys(rows["probe"]))
    out = Figure({"trained on": {str(i): probe for i, probe in enumerate(probes)}})
    for i, probe in enumerate(probes):
        own = rows[rows["probe"] == probe].sort_values("steps", kind="stable").to_dict("records")
        points = [_point(record, looks[record["method"]]) for record in own]
        aside = [point for point in points if point["method"] in REFERENCES]
        full = [record["accuracy"] for record in own if record["method"] == UNTOUCHED and record["steps"] == 0]
        levels = {"half is back": full[0] / 2} if full and full[0] > 0 else {}
        words = {"$x": "steps of training after unlearning", "$y": "accuracy of the forgotten concept, %"}
        words["$about"] = f"Accuracy of the forgotten concept against steps of training ({probe}), a line a method"
        own = [point for point in points if point not in aside]
        out.specs[str(i)] = lines.chart(own, words, references=aside, levels=levels, whole=False)
    return out


def _point(record: Mapping[Any, Any], look: Look) -> dict[str, Any]:
    return lines.row(record, "accuracy", record["steps"], look)
