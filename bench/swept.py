"""A grid over settings: a method's figures against the value of each setting."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from bench import clusters


def frame(cells: pd.DataFrame) -> pd.DataFrame:
    """From cells to one row for each method, setting that was swept, and value of it, with the means of its figures.

    `method` is its plain name, `field` the setting, `value` what it was, as text, `at` the same as a number, None for
    words and switches; `others` what the other settings of the sweep were ("lr=0.0001, t_max=300"), "" where there are
    none. Then H, UA, NRA, TWIN, ORA, FID, KID, DRIFT, those that were measured, each as NAME, NAME_lo, NAME_hi. Plain
    settings count among the values of every field. A variant whose cells are not all finished has no row, nor has one
    that differs from no other in `field` alone. No rows without a sweep.
    """
    names, rows = clusters.shown(cells), []
    own = cells[cells["variant_of"].notna()] if "variant" in cells else cells.iloc[:0].assign(variant_of="")
    for method, group in own.groupby("variant_of", sort=False):
        fields = list(dict.fromkeys(field for text in group["variant"] for field in json.loads(text)))
        whole = {name: one for name, one in group.groupby("method", sort=False) if clusters.whole(one)}
        settings = {name: _settings(one, fields) for name, one in whole.items()}
        for field in fields:
            found: list[dict[str, Any]] = []
            for name, one in whole.items():
                value, others = settings[name][field], {f: v for f, v in settings[name].items() if f != field}
                rest = ", ".join(f"{f}={text(v)}" for f, v in others.items())
                place = {"method": method, "field": field, "value": text(value), "at": number(value), "others": rest}
                found.append(place | clusters.figures(one, names))
            count = pd.Series([row["others"] for row in found]).value_counts()
            rows += sorted((row for row in found if count[row["others"]] > 1), key=_place)
    head = ["method", "field", "value", "at", "others"]
    return pd.DataFrame(rows, columns=[*head, *clusters.spread(names)])


def text(value: Any) -> str:
    """A setting as the command line has it."""
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def number(value: Any) -> float | None:
    """A setting as a place on an axis; None for words, switches and lists."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _settings(cells: pd.DataFrame, fields: list[str]) -> dict[str, Any]:
    first = cells.iloc[0]
    known = json.loads(first["config"]) | json.loads(first["variant"])
    return {field: known[field] for field in fields}


def _place(row: dict[str, Any]) -> tuple[str, bool, float, str]:
    return (row["others"], row["at"] is None, row["at"] or 0.0, row["value"])
