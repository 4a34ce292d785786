"""The charts of a sweep: a method's figures against the value of a setting, a panel for each setting."""

from __future__ import annotations

import json

import pandas as pd

from bench import swept
from bench.report import charts, colours, lines
from bench.report.figures import Figure, Panels, title
from bench.report.sets import SHOWN

HEIGHT = 240  # pixels of a panel


def figure(frame: pd.DataFrame, cells: pd.DataFrame) -> Panels | None:
    """A panel for each setting, from `bench.swept.frame` and the cells that it is of; None where there is nothing.

    A line is a method at fixed values of the other settings; a ring marks its plain setting.
    """
    kinds = lines.shown(frame, SHOWN)
    if not kinds:
        return None
    usual, looks = plain(cells), colours.looks(list(dict.fromkeys(frame["method"])))
    fields = list(dict.fromkeys(frame["field"]))
    out = Panels({"figure": {name: name.upper() for name in kinds}}, {field: Figure() for field in fields})
    for field, own in frame.groupby("field", sort=False):
        numbers = own["at"].notna().all()
        several = own["method"].nunique() > 1
        for name in kinds:
            rows = [
                lines.row(
                    record,
                    name,
                    record["at"] if numbers else None,
                    looks[record["method"]],
                    series=f"{record['method']} {record['others']}",
                    label=" ".join(filter(None, [record["method"] if several or not record["others"] else "",
                                                 record["others"]])),
                    value=record["value"],
                    x_text=record["value"],
                    ring=(record["method"], field, record["value"], record["others"]) in usual,
                )
                for record in own.dropna(subset=[name]).to_dict("records")
            ]  # fmt: skip
            if not rows:
                continue
            words = {"$x": str(field), "$y": title(name), "$about": f"{name.upper()} against {field}"}
            if numbers:
                spec = lines.chart(rows, words, pick=False, height=HEIGHT)
            else:
                y0, y1 = lines.heights(rows)
                data = {"lines": rows, "rings": [row for row in rows if row["ring"]]}
                spec = charts.filled(lines.dots(HEIGHT), data, {**words, "$y0": y0, "$y1": y1})
            out.panels[str(field)].specs[name] = spec
    return out


def plain(cells: pd.DataFrame) -> set[tuple[str, str, str, str]]:
    """(method, field, value, others), as `swept.frame` writes them, of the settings that a sweep left as they are."""
    out = set()
    for method, group in cells.dropna(subset=["variant_of"]).groupby("variant_of", sort=False):
        fields = list(dict.fromkeys(field for text in group["variant"] for field in json.loads(text)))
        for text in group.loc[group["variant"] == "{}", "config"].unique():
            config = {field: swept.text(value) for field, value in json.loads(text).items() if field in fields}
            for field in fields:
                others = ", ".join(f"{f}={config[f]}" for f in fields if f != field)
                out.add((str(method), field, config[field], others))
    return out
