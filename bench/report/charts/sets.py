"""The chart of forgetting several concepts at once: figures against the number of concepts."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.report.charts import lines
from bench.report.charts.colours import Look
from bench.report.charts.figures import Figure, title
from bench.report.page.summary import listed
from methods import REFERENCES

SHOWN = ("h", "ua", "nra", "ora", "twin", "drift", "fid", "kid")
WAYS = {"joint": "All concepts in every step", "alternate": "One concept a step, in turn",
        "closed_form": "All in one solution"}  # fmt: skip


def figure(frame: pd.DataFrame, looks: Mapping[str, Look], ways: Mapping[str, str]) -> Figure | None:
    """One line per method, from `bench.board.several.frame`. None without data.

    Args:
        frame: the figures.
        looks: method -> its colour and shape.
        ways: method -> the way in which it forgets several concepts, a key of `WAYS`.
    """
    rows = frame[frame["method"].isin([name for name in looks if name not in REFERENCES])]
    kinds, out = lines.shown(rows, SHOWN), Figure()
    out.choices["figure"] = {name: name.upper() for name in kinds}
    for name in kinds:
        own = [lines.row(r, name, r["k"], looks[r["method"]]) for r in rows.dropna(subset=[name]).to_dict("records")]
        words = {"$x": "concepts forgotten at once", "$y": title(name)}
        words["$about"] = f"{name.upper()} against the number of concepts forgotten at once, a line a method"
        out.specs[name] = lines.chart(own, words)
        out.notes[name] = said({method: ways[method] for method in looks if method in ways})
    return out if kinds else None


def said(ways: Mapping[str, str]) -> str:
    """Sentences that list the methods by the way in which they forget several concepts."""
    groups = {way: [name for name in ways if ways[name] == way and name not in REFERENCES] for way in WAYS}
    return " ".join(f"{WAYS[way]}: {listed(names)}." for way, names in groups.items() if names)
