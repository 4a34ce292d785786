"""The charts of a sweep: a method's figures against the value of a setting, one panel per setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.charts import colours, lines, vega_lite
from bench.report.charts.colours import Look
from bench.report.charts.figures import Figure, Panels, title
from bench.report.charts.sets import SHOWN

HEIGHT = 240  # height of a panel in pixels


def figure(frame: pd.DataFrame) -> Panels | None:
    """One panel per setting, from `bench.board.sweeps.frame`. None without data.

    A line is a method with fixed values of the other settings. A ring marks the method without the sweep.
    """
    kinds = lines.shown(frame, SHOWN)
    if not kinds:
        return None
    looks = colours.looks(list(dict.fromkeys(frame["method"])))
    fields = list(dict.fromkeys(frame["field"]))
    out = Panels({"figure": {name: name.upper() for name in kinds}}, {field: Figure() for field in fields})
    for field, own in frame.groupby("field", sort=False):
        numbers = bool(own["at"].notna().all())
        several = own["method"].nunique() > 1
        for name in kinds:
            rows = [
                _point(record, name, looks[record["method"]], numbers=numbers, several=several)
                for record in own.dropna(subset=[name]).to_dict("records")
            ]
            if not rows:
                continue
            words = {"$x": str(field), "$y": title(name), "$about": f"{name.upper()} against {field}"}
            if numbers:
                spec = lines.chart(rows, words, pick=False, height=HEIGHT)
            else:
                y0, y1 = lines.heights(rows)
                data = {"lines": rows, "rings": [row for row in rows if row["ring"]]}
                spec = vega_lite.filled(lines.dots(HEIGHT), data, {**words, "$y0": y0, "$y1": y1})
            out.panels[str(field)].specs[name] = spec
    return out


def _point(record: Mapping[Any, Any], name: str, look: Look, *, numbers: bool, several: bool) -> dict[str, Any]:
    """A point of a panel. `several` says whether the label has to name the method."""
    method, others, value = (record[name] for name in ("method", "others", "value"))
    return lines.row(
        record,
        name,
        record["at"] if numbers else None,
        look,
        series=f"{method} {others}",
        label=f"{method} {others}".strip() if several or not others else others,
        value=value,
        x_text=f"{value} ({others})" if others else value,
        ring=record["plain"],
    )
