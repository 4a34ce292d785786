"""Charts of a figure against a number, with one line per method and intervals: their specifications and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import altair as alt
import pandas as pd

from bench.report.charts import labels, vega_lite
from bench.report.charts.colours import Look
from bench.report.charts.vega_lite import Rows
from metrics import METRICS

HEIGHT = 320  # size of a plot in pixels
ROOM = 0.05  # share of an axis that stays free at each end
WIDE = 30  # an axis is logarithmic if the largest value is this many times the smallest
APART = 0.006  # share of an axis between methods at the same number, so that their intervals are visible
TICK = "0 < datum.value && datum.value < 0.001 ? format(datum.value, '~e') : toString(datum.value)"
FIGURE = vega_lite.tip(("method:N", "method", ""), ("x_text:N", "$x", ""), ("y_text:N", "$y", ""))


@cache
def skeleton(
    ticks: tuple[float, ...] = (), log: bool = False, height: int = HEIGHT, pick: bool = True
) -> dict[str, Any]:
    """The specification of lines with intervals: rows "lines", dashed rows "references", labels at the ends "names".

    Rows "levels" are grey horizontal rules. Rows "rings" are rings around points. The titles are "$x", "$y" and
    "$about". The ends of the scales are "$x0", "$x1", "$y0" and "$y1". With `pick`, only picked methods have full
    colour.
    """
    kind = "log" if log else "linear"
    axis = alt.Axis(values=list(ticks), labelExpr=TICK, labelOverlap="greedy") if ticks else alt.Axis(tickCount=6)
    x = alt.X("x:Q", title="$x", axis=axis, scale=alt.Scale(type=kind, domain=["$x0", "$x1"], nice=False))
    scale = alt.Scale(domain=["$y0", "$y1"], nice=False)
    y, low = (alt.Y(name, title="$y", scale=scale, axis=alt.Axis(tickCount=5)) for name in ("y:Q", "y_lo:Q"))

    def seen(full: float) -> Any:
        test = f"!datum.method || {vega_lite.IS_PICKED}"
        return alt.condition(test, alt.value(full), alt.value(min(full, vega_lite.FAINT))) if pick else alt.value(full)

    named = alt.Chart(alt.NamedData("names")).mark_text(
        align="left", baseline="middle", dx=8, fontSize=12, fontWeight=600
    )
    lines, references = (
        alt.Chart(alt.NamedData(name)).encode(x=x, color=vega_lite.COLOUR, detail="series:N")
        for name in ("lines", "references")
    )
    layers = [
        alt.Chart(alt.NamedData("levels")).mark_rule(color=vega_lite.FRONT, strokeWidth=1).encode(y=y),
        references.mark_line(strokeWidth=1.5, strokeDash=[5, 4]).encode(y=y, opacity=alt.value(0.9)),
        lines.mark_rule(strokeWidth=2).encode(y=low, y2="y_hi:Q", opacity=seen(0.4)),
        lines.mark_line(strokeWidth=2).encode(y=y, opacity=seen(0.85)),
        alt.Chart(alt.NamedData("rings"))
        .mark_point(size=260, filled=False, stroke="var(--ink)", strokeWidth=1.5)
        .encode(x=x, y=y),
        *(
            chart.mark_point(filled=True, size=size, stroke="var(--paper)", strokeWidth=1).encode(
                y=y, shape=vega_lite.SHAPE, opacity=full, tooltip=FIGURE
            )
            for chart, size, full in ((references, 30, alt.value(1)), (lines, 75, seen(1)))
        ),
        named.encode(x=alt.value("width"), y=y, text="label:N", color=vega_lite.COLOUR, opacity=seen(1)),
    ]
    return vega_lite.finished(alt.layer(*layers), height, "$about")


@cache
def dots(height: int = HEIGHT) -> dict[str, Any]:
    """The specification of figures against text values: rows "lines" and "rings", in the order of their `value`.

    Methods stand side by side. The titles are "$x", "$y" and "$about". The ends of the scale are "$y0" and "$y1".
    """
    x = alt.X("value:N", title="$x", sort=None, axis=alt.Axis(labelAngle=0, labelLimit=120, grid=True))
    scale = alt.Scale(domain=["$y0", "$y1"], nice=False)
    y, low = (alt.Y(name, title="$y", scale=scale, axis=alt.Axis(tickCount=5)) for name in ("y:Q", "y_lo:Q"))
    lines, rings = (
        alt.Chart(alt.NamedData(name)).encode(x=x, xOffset=alt.XOffset("series:N", sort=None))
        for name in ("lines", "rings")
    )
    layers = [
        lines.mark_rule(strokeWidth=2, opacity=0.4).encode(y=low, y2="y_hi:Q", color=vega_lite.COLOUR),
        rings.mark_point(size=260, filled=False, stroke="var(--ink)", strokeWidth=1.5).encode(y=y),
        lines.mark_point(filled=True, size=75, stroke="var(--paper)", strokeWidth=1, opacity=1).encode(
            y=y, color=vega_lite.COLOUR, shape=vega_lite.SHAPE, tooltip=FIGURE
        ),
    ]
    return vega_lite.finished(alt.layer(*layers), height, "$about")


def number(value: Any) -> float | None:
    """A figure, rounded for drawing; None if it is missing."""
    return None if value is None or pd.isna(value) else float(f"{value:.5g}")


def row(record: Mapping[Any, Any], name: str, x: float | None, look: Look, **more: Any) -> dict[str, Any]:
    """A point of a line: the figure `name` of a record, its interval, and the text of both."""
    digits = METRICS.get(name).column.digits if name in METRICS else 1
    low, value, high = (number(record.get(f"{name}{end}")) for end in ("_lo", "", "_hi"))
    interval = "" if low is None or high is None else f" ({low:,.{digits}f} – {high:,.{digits}f})"
    given = {"method": look.method, "series": look.method, "colour": look.css, "shape": look.shape}
    text = {"x_text": "" if x is None else f"{x:,g}", "y_text": f"{value:,.{digits}f}{interval}"}
    return given | {"x": x, "y": value, "y_lo": low, "y_hi": high} | text | more


def shown(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those of the figures `names` that have a value in the frame."""
    return [name for name in names if name in frame and frame[name].notna().any()]


def logarithmic(values: Sequence[float]) -> bool:
    """Whether an axis of these numbers has to be logarithmic."""
    return bool(values) and min(values) > 0 and max(values) >= WIDE * min(values)


def spread(rows: Sequence[Mapping[str, Any]], low: float, high: float, log: bool) -> Rows:
    """The rows with their lines moved apart slightly, on an axis from `low` to `high`."""
    series = list(dict.fromkeys(row["series"] for row in rows))
    step = (high / low) ** APART if log else (high - low) * APART
    at = {one: i - (len(series) - 1) / 2 for i, one in enumerate(series)}
    moved = [row["x"] * step ** at[row["series"]] if log else row["x"] + step * at[row["series"]] for row in rows]
    return [{**row, "x": number(x)} for row, x in zip(rows, moved, strict=True)]


def span(values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """The ends of an axis with room for the values."""
    low, high = min(values), max(values)
    if log:
        return low / (high / low) ** ROOM, high * (high / low) ** ROOM
    room = ROOM * (high - low or 1.0)
    return low - room, high + room


def heights(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of an axis with room for the figures of the rows and their intervals."""
    return span([row[name] for row in rows for name in ("y", "y_lo", "y_hi") if row.get(name) is not None])


def chart(
    rows: Sequence[Mapping[str, Any]],
    words: Mapping[str, Any],
    *,
    references: Sequence[Mapping[str, Any]] = (),
    levels: Mapping[str, float] = MappingProxyType({}),
    whole: bool = True,
    pick: bool = True,
    height: int = HEIGHT,
) -> dict[str, Any]:
    """A finished chart of lines. A row with `ring` has a ring around its point.

    Args:
        rows: rows from `row`. The rows of a line follow each other.
        words: the titles "$x", "$y" and "$about".
        references: rows of dashed lines.
        levels: label of a horizontal rule -> its value.
        whole: whether the axis has ticks only at the numbers that occur.
    """
    drawn = [*rows, *references]
    values = sorted({row["x"] for row in drawn})
    log = logarithmic(values)
    x0, x1 = span(values, log)
    across = [{"series": name, "label": name, "colour": "var(--soft)", "x": x0, "y": y} for name, y in levels.items()]
    y0, y1 = heights([*drawn, *across])
    named = [*rows, *({**row, "label": row["method"], "method": ""} for row in references), *across]
    several = len({row["series"] for row in named}) > 1
    moved = spread(rows, x0, x1, log)
    data: dict[str, Rows] = {
        "lines": moved,
        "references": [dict(row) for row in references],
        "levels": across,
        "rings": [row for row in moved if row.get("ring")],
        "names": labels.at_ends(named, y0, y1, height) if several else [],
    }
    known = {**words, "$x0": x0, "$x1": x1, "$y0": y0, "$y1": y1}
    return vega_lite.filled(skeleton(tuple(values) if whole else (), log, height, pick), data, known)
