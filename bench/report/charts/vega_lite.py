"""The charts as Vega-Lite specifications, made with Altair.

The specification of each kind of chart is built once. Rows and titles are filled in afterwards. Colours are CSS
variables, so a chart follows the theme of its page.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt

Rows = list[dict[str, Any]]

FAINT = 0.1  # opacity of a method that is not picked
PICKED = alt.param(name="picked", value=[])
IS_PICKED = "length(picked) == 0 || indexof(picked, datum.method) >= 0"
COLOUR = alt.Color("colour:N", scale=None, legend=None)
SHAPE = alt.Shape("shape:N", scale=None, legend=None)
FRONT = "var(--front)"


def _opacity(full: float) -> Any:
    return alt.condition(IS_PICKED, alt.value(full), alt.value(min(full, FAINT)))


def tip(*fields: tuple[str, str, str]) -> list[alt.Tooltip]:
    """Tooltips from (field with its type, title, format)."""
    return [alt.Tooltip(f, title=t, format=s) if s else alt.Tooltip(f, title=t) for f, t, s in fields]


def finished(chart: alt.LayerChart, height: int | alt.Step, description: str) -> dict[str, Any]:
    """The specification of a chart with the width of its container and the colours of the page."""
    text = "system-ui, sans-serif"
    axis = {
        "labelColor": "var(--soft)", "titleColor": "var(--ink)", "gridColor": "var(--rule)",
        "domainColor": "var(--line)", "tickColor": "var(--line)", "labelFont": text, "titleFont": text,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 600, "titlePadding": 8, "gridWidth": 1,
        "labelLimit": 150,
    }  # fmt: skip
    config = alt.Config(
        background="transparent", view=alt.ViewConfig(stroke=None), axis=alt.AxisConfig(**axis), font=text
    )
    spec = chart.add_params(PICKED).properties(width="container", height=height, description=description, config=config)
    return spec.to_dict(validate=False)


def filled(
    spec: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]], words: Mapping[str, Any]
) -> dict[str, Any]:
    """A specification with rows in its named data sets, and `words` in place of its placeholders.

    A word that is a list stands in place of a list that has only its placeholder. Layers without rows are left out.
    Names of users must be in `rows` or `words` and never in `spec`, where a name such as "$x" would be taken for a
    placeholder.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            whole = words.get(node[0]) if len(node) == 1 and isinstance(node[0], str) else None
            return whole if isinstance(whole, list) else [walk(value) for value in node]
        return words.get(node, node) if isinstance(node, str) else node

    full = {**walk(copy.deepcopy(dict(spec))), "datasets": dict(rows)}
    shared = full.get("data", {}).get("name")
    layers = [layer for layer in full["layer"] if rows[layer.get("data", {}).get("name", shared)]]
    return {**full, "layer": layers}


@cache
def tradeoff(beside: bool = False) -> dict[str, Any]:
    """Points with intervals in both directions: rows "points", the Pareto front "front", "curves" along the training.

    With `beside`, rows "reported" are hollow grey points with their "source". The titles are "$x", "$y" and "$about".
    """
    x = alt.X("x:Q", title="$x", scale=alt.Scale(zero=False, nice=False, padding=16), axis=alt.Axis(tickCount=6))
    y = alt.Y("y:Q", title="$y", scale=alt.Scale(zero=False, nice=False, padding=16))
    points = alt.Chart(alt.NamedData("points")).encode(color=COLOUR)
    tips = tip(("method:N", "method", ""), ("x_text:N", "$x", ""), ("y_text:N", "$y", ""))
    curves = alt.Chart(alt.NamedData("curves")).encode(x=x, y=y, color=COLOUR, detail="method:N")
    layers = [
        *(_hollow(x, y) if beside else []),
        alt.Chart(alt.NamedData("front")).mark_line(
            color=FRONT, strokeWidth=1.5, strokeDash=[4, 4], interpolate="step-before"
        ).encode(x=x, y=y, order="x:Q"),
        curves.mark_line(strokeWidth=1.75).encode(order="part:Q", opacity=_opacity(0.6)),
        curves.mark_point(filled=True, size=18).encode(
            opacity=_opacity(0.8),
            tooltip=tip(
                ("method:N", "method", ""), ("part:Q", "part of training", ".0%"), ("x:Q", "$x", ".1f"),
                ("y:Q", "$y", ".1f"),
            ),
        ),
        points.mark_rule(strokeWidth=2).encode(x=alt.X("x_lo:Q", title="$x"), x2="x_hi:Q", y=y, opacity=_opacity(0.45)),
        points.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("y_lo:Q", title="$y"), y2="y_hi:Q", opacity=_opacity(0.45)),
        points.mark_point(filled=True, size=110, stroke="var(--paper)", strokeWidth=1.5).encode(
            x=x, y=y, shape=SHAPE, opacity=_opacity(1), tooltip=tips
        ),
        points.mark_text(
            fontSize=13, fontWeight=600, baseline="middle",
            align=alt.ExprRef("datum.align"), dx=alt.ExprRef("datum.dx"), dy=alt.ExprRef("datum.dy"),
        ).encode(x=x, y=y, text="label:N", opacity=_opacity(1)),
    ]  # fmt: skip
    return finished(alt.layer(*layers), 380, "$about")


def _hollow(x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The points of papers, with their labels. They do not change when the reader picks methods."""
    points = alt.Chart(alt.NamedData("reported")).encode(x=x, y=y)
    tips = tip(
        ("method:N", "method", ""), ("x_text:N", "$x", ""), ("y_text:N", "$y", ""), ("source:N", "reported by", "")
    )
    return [
        points.mark_point(filled=False, size=70, stroke=FRONT, strokeWidth=1.5).encode(tooltip=tips),
        points.mark_text(
            fontSize=11, baseline="middle", color=FRONT,
            align=alt.ExprRef("datum.align"), dx=alt.ExprRef("datum.dx"), dy=alt.ExprRef("datum.dy"),
        ).encode(text="label:N"),
    ]  # fmt: skip


@cache
def near_to_far() -> dict[str, Any]:
    """Mean drop of one method against distance, with a band: rows "profile", and rows "dots" for single concepts.

    The titles are "$x" and "$about". The ends of the scales are "$x0", "$x1", "$y0" and "$y1".
    """
    x = alt.X("distance:Q", title="$x", scale=alt.Scale(domain=["$x0", "$x1"], nice=False), axis=alt.Axis(tickCount=5))
    y = alt.Y(
        "drop:Q", title="drop, points", scale=alt.Scale(domain=["$y0", "$y1"], nice=False), axis=alt.Axis(tickCount=4)
    )
    profile = alt.Chart(alt.NamedData("profile")).encode(x=x, color=COLOUR)
    dots = alt.Chart(alt.NamedData("dots")).mark_circle(size=26, clip=True).encode(
        x=x, y=y, color=COLOUR, opacity=alt.value(0.28),
        tooltip=tip(
            ("concept:N", "concept", ""), ("task:N", "forgotten", ""), ("distance:Q", "distance", ".2f"),
            ("drop:Q", "drop, points", ".1f"),
        ),
    )  # fmt: skip
    layers = [
        profile.mark_area(opacity=0.2, clip=True).encode(y=alt.Y("drop_lo:Q", title="drop, points"), y2="drop_hi:Q"),
        dots,
        profile.mark_line(strokeWidth=2.5, clip=True).encode(y=y),
        profile.mark_circle(size=46, opacity=1, clip=True).encode(
            y=y,
            tooltip=tip(
                ("method:N", "method", ""), ("distance:Q", "mean distance", ".2f"), ("drop:Q", "mean drop", ".1f"),
                ("interval:N", "95 % interval", ""), ("n:Q", "images", ""),
            ),
        ),
    ]  # fmt: skip
    return finished(alt.layer(*layers), 170, "$about")


@cache
def heat() -> dict[str, Any]:
    """Forgotten concepts (rows) by evaluated concepts (columns): rows "cells", and "targets" for forgotten concepts.

    A concept that starts a domain has a rule, a row of "edges". The title is "$about". The tasks and the concepts are
    "$tasks" and "$concepts".
    """
    axis = {"domain": False, "ticks": False, "grid": False, "labelFontSize": 11}
    x = alt.X("concept:N", title=None, scale=alt.Scale(domain=["$concepts"], paddingInner=0.08, paddingOuter=0),
              axis=alt.Axis(labelAngle=-90, labelLimit=110, labelOverlap=False, **axis))  # fmt: skip
    y = alt.Y("task:N", title=None, scale=alt.Scale(domain=["$tasks"], paddingInner=0.08, paddingOuter=0),
              axis=alt.Axis(labelLimit=110, labelOverlap=False, **axis))  # fmt: skip
    cells = alt.Chart(alt.NamedData("cells")).encode(
        x=x, y=y,
        tooltip=tip(
            ("task:N", "forgotten", ""), ("concept:N", "evaluated", ""), ("words:N", "accuracy", ""),
            ("drop:Q", "drop, points", ".1f"),
        ),
    )  # fmt: skip
    strength = alt.Opacity("size:Q", scale=alt.Scale(domain=[0, 100], range=[0, 1], clamp=True), legend=None)
    rules = alt.Chart(alt.NamedData("edges")).mark_rule(color="var(--line)", strokeWidth=1)
    layers = [
        cells.mark_rect(color="var(--empty)"),
        cells.mark_rect().encode(
            color=alt.condition("datum.drop < 0", alt.value("var(--gain)"), alt.value("var(--loss)")), opacity=strength
        ),
        alt.Chart(alt.NamedData("targets")).mark_rect(
            color="transparent", stroke="var(--soft)", strokeWidth=1.2, strokeDash=[2, 2]
        ).encode(x=x, y=y, tooltip=tip(("task:N", "forgotten", ""))),
        rules.encode(x=alt.X("concept:N", bandPosition=0, title=None)),
    ]  # fmt: skip
    return finished(alt.layer(*layers), alt.Step(17), "$about")


@cache
def cost() -> dict[str, Any]:
    """Quality against cost: rows "points". The titles are "$x", "$y" and "$about"."""
    x = alt.X("x:Q", title="$x", scale=alt.Scale(zero=True, nice=False, padding=16), axis=alt.Axis(tickCount=6))
    y = alt.Y("y:Q", title="$y", scale=alt.Scale(zero=False, nice=False, padding=16))
    points = alt.Chart(alt.NamedData("points")).encode(color=COLOUR, x=x)
    layers = [
        points.mark_rule(strokeWidth=2).encode(
            y=alt.Y("y_lo:Q", title="$y"), y2="y_hi:Q", opacity=_opacity(0.45)
        ),
        points.mark_point(filled=True, size=110, stroke="var(--paper)", strokeWidth=1.5).encode(
            y=y, shape=SHAPE, opacity=_opacity(1),
            tooltip=tip(("method:N", "method", ""), ("x_text:N", "$x", ""), ("y_text:N", "$y", "")),
        ),
        points.mark_text(
            fontSize=13, fontWeight=600, baseline="middle",
            align=alt.ExprRef("datum.align"), dx=alt.ExprRef("datum.dx"), dy=alt.ExprRef("datum.dy"),
        ).encode(y=y, text="label:N", opacity=_opacity(1)),
    ]  # fmt: skip
    return finished(alt.layer(*layers), 340, "$about")
