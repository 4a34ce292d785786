"""Sweeps over settings: the figures of a method against the value of each setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.board import clusters


def frame(cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, swept setting and value of this setting, with the means of the variant's figures.

    `method` is the method's name without its variant, `field` the setting, `value` the setting's value as text, and
    `at` the value as a number (None for words, switches and lists). `others` has the other settings of the sweep that
    differ among the rows of this field ("lr=0.0001"). It is "" if they are all equal. `plain` says whether the row has
    the default settings. The default settings count among the values of every field. Then come NAME, NAME_lo and
    NAME_hi of each of H, UA, NRA, TWIN, ORA, FID, KID and DRIFT that was measured.

    A variant has no row if one of its cells is not finished. It has no row for a field if there is no other variant
    that differs from it in this field alone. The table is empty if there is no sweep.

    Args:
        cells: table from `tables.cells_frame`.
    """
    names, rows = clusters.shown(cells), []
    swept = cells[cells["variant_of"].notna()] if "variant" in cells else cells.iloc[:0].assign(variant_of="")
    for method, group in swept.groupby("variant_of", sort=False):
        fields = list(dict.fromkeys(field for set_to in group["variant"] for field in json.loads(set_to)))
        whole = {str(name): one for name, one in group.groupby("method", sort=False) if clusters.whole(one)}
        settings = {name: _settings(one, fields) for name, one in whole.items()}
        for field in fields:
            for name, others in _compared(settings, field).items():
                value = settings[name][field]
                place = {"method": method, "field": field, "value": text(value), "at": number(value), "others": others}
                rows.append(place | {"plain": name == method} | clusters.figures(whole[name], names))
    head = ["method", "field", "value", "at", "others", "plain"]
    return pd.DataFrame(rows, columns=[*head, *clusters.spread(names)])


def text(value: Any) -> str:
    """A value of a setting as text, in the form that the command line uses."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: Any) -> float | None:
    """A value of a setting as a number for an axis. None for words, switches and lists."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _compared(settings: Mapping[str, Mapping[str, Any]], field: str) -> dict[str, str]:
    """The variants that differ from another variant in `field` alone.

    Args:
        settings: variant -> values of all swept settings.

    Returns variant -> its other settings as text, sorted by this text and then by the value of `field`. The text leaves
    out settings that are equal in all these variants.
    """
    rest = {name: {f: text(v) for f, v in values.items() if f != field} for name, values in settings.items()}
    kept = [name for name, others in rest.items() if sum(others == other for other in rest.values()) > 1]
    apart = [f for f in next(iter(rest.values()), {}) if len({rest[name][f] for name in kept}) > 1]
    lines = {name: ", ".join(f"{f}={rest[name][f]}" for f in apart) for name in kept}

    def place(name: str) -> tuple[str, bool, float, str]:
        value = settings[name][field]
        at = number(value)
        return (lines[name], at is None, at or 0.0, text(value))

    return {name: lines[name] for name in sorted(kept, key=place)}


def _settings(cells: pd.DataFrame, fields: list[str]) -> dict[str, Any]:
    known = json.loads(cells["config"].iloc[0])  # all settings, also those of the sweep, in the types of JSON
    return {field: known[field] for field in fields}
