"""The charts of sequences of requests: UA of every requested concept after each request, and figures by request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import altair as alt
import pandas as pd

from bench.report.charts import lines, vega_lite
from bench.report.charts.colours import Look
from bench.report.charts.figures import Figure, Panels, title
from methods import REFERENCES

SHOWN = ("h", "ua", "nra", "ora", "twin", "drift")
SECONDS = "seconds"
DEEP, PALE = 80, 60  # a number inside a cell is readable in both themes if UA is at least DEEP or at most PALE


@cache
def grid() -> dict[str, Any]:
    """The specification of requests (rows) by concepts (columns): rows "cells". The rows "asked" have a frame.

    The title is "$about". The requests and the concepts are "$requests" and "$concepts".
    """
    axis = {"domain": False, "ticks": False, "grid": False, "labelFontSize": 11, "labelOverlap": False}
    scales = [alt.Scale(domain=of, paddingInner=0.06, paddingOuter=0) for of in (["$concepts"], ["$requests"])]
    x = alt.X("concept:N", title=None, scale=scales[0],
              axis=alt.Axis(orient="top", labelAngle=-90, labelLimit=130, **axis))  # fmt: skip
    y = alt.Y("after:N", title="after request", scale=scales[1], axis=alt.Axis(labelLimit=130, **axis))
    cells = alt.Chart(alt.NamedData("cells")).encode(x=x, y=y)
    strength = alt.Opacity("ua:Q", scale=alt.Scale(domain=[0, 100], range=[0, 1], clamp=True), legend=None)
    tips = [("method:N", "method", ""), ("after:N", "after request", ""), ("concept:N", "concept", ""),
            ("since:N", "asked for in request", ""), ("ua:Q", "UA, %", ".1f"), ("each:N", "of seeds", "")]  # fmt: skip
    layers = [
        cells.mark_rect(color="var(--empty)"),
        cells.mark_rect(color="var(--accent)").encode(opacity=strength),
        alt.Chart(alt.NamedData("asked"))
        .mark_rect(color="transparent", stroke="var(--ink)", strokeWidth=1.2, strokeDash=[2, 2])
        .encode(x=x, y=y),
        cells.mark_text(fontSize=11).encode(text="text:N", color=alt.Color("ink:N", scale=None)),
        cells.mark_rect(color="transparent").encode(tooltip=vega_lite.tip(*tips)),  # above the number
    ]
    return vega_lite.finished(alt.layer(*layers), alt.Step(24), "$about")


def matrix(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Panels | None:
    """UA of each concept after each request, from `bench.board.sequences.matrix`: a panel per method and sequence.

    Cells are means over training seeds. The tooltip has the value of each seed. None without data.
    """
    own = frame[frame["method"].isin([name for name in looks if name not in REFERENCES])]
    chains, out = list(dict.fromkeys(own["chain"])), Panels()
    for number, chain in enumerate(chains, 1):
        rows = own[own["chain"] == chain]
        requests = rows.drop_duplicates("step").set_index("step")["request"].sort_index()
        after = {int(step): f"{step} {request}" for step, request in requests.items()}
        concepts = tuple(dict.fromkeys(rows.sort_values("since", kind="stable")["concept"]))
        for method in looks:
            cells = [
                {"method": method, "after": after[step], "concept": concept, **_cell(group)}
                for (step, concept), group in rows[rows["method"] == method].groupby(["step", "concept"], sort=False)
            ]
            if not cells:
                continue
            about = f"Unlearning accuracy of each concept (columns) after each request (rows), for {method}"
            data = {"cells": cells, "asked": [cell for cell in cells if cell["after"] == after[cell["since"]]]}
            name = method if len(chains) == 1 else f"{method} · sequence {number}"
            words = {"$about": about, "$requests": list(after.values()), "$concepts": list(concepts)}
            out.panels[name] = Figure(specs={"": vega_lite.filled(grid(), data, words)})
    return out if out.panels else None


def _cell(group: pd.DataFrame) -> dict[str, Any]:
    """A cell of `grid` from its rows, one row per training seed."""
    ua = float(group["ua"].mean())
    ink = "var(--paper)" if ua >= DEEP else "var(--ink)" if ua <= PALE else "var(--between)"
    each = ", ".join(f"{row['ua']:.1f} (seed {row['seed']})" for row in group.to_dict("records"))
    return {"ua": lines.number(ua), "text": f"{ua:.0f}", "ink": ink, "since": int(group["since"].iloc[0]), "each": each}


def along(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure | None:
    """Figures against the number of requests, one line per method (`bench.board.sequences.along`). None if empty."""
    rows = frame[frame["method"].isin([name for name in looks if name not in REFERENCES])]
    kinds, out = lines.shown(rows, (*SHOWN, SECONDS)), Figure()
    out.choices["figure"] = {name: SECONDS if name == SECONDS else name.upper() for name in kinds}
    for name in kinds:
        own = [
            lines.row(r, name, r["step"], looks[r["method"]], x_text=f"{r['step']}: {r['request']}")
            for r in rows.dropna(subset=[name]).to_dict("records")
        ]
        words = {"$x": "requests so far", "$y": "seconds of all requests so far ↓" if name == SECONDS else title(name)}
        words["$about"] = f"{out.choices['figure'][name]} against the number of requests, a line a method"
        out.specs[name] = lines.chart(own, words)
    return out if kinds else None
