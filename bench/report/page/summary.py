"""A summary of the board in sentences. A sentence claims only what the intervals support."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.report.page.board import columns, label, own
from bench.report.terminal import ranked
from methods import REFERENCES
from metrics import Column


def sentences(board: pd.DataFrame, metrics: Sequence[str], tasks: int, seeds: int) -> list[str]:
    """The summary of a board: the comparison, the best methods, the differences between methods, the limits."""
    rows = board[~board["method"].isin(REFERENCES)]
    good = rows[rows["status"] == "ok"]
    out = [_size(len(rows), tasks, seeds)]
    if len(good) < len(rows):
        lost = listed(rows.loc[rows["status"] != "ok", "method"].tolist())
        out.append(f"Not every cell of {lost} finished: they have a status, and no figures.")
    if good.empty:
        return [*out, "No method besides the controls finished, so there is nothing to compare."]
    shown = {column.name: column for column in columns(good, metrics)}
    if "rank" in good and good["rank"].notna().any():
        out.append(_ranks(good))
    elif len(good) > 1:
        out.append("This board has no ranks; what follows compares intervals, which is stricter than a paired test.")
    names = own(board)
    out += [_range(good, shown["ua"])] if "ua" in shown and not names else []
    if len(good) > 1:
        told = [n for n in names if n in shown and shown[n].headline] if names else ["nra", "twin", "ora", "drift"]
        out += [_apart(good, shown[name]) for name in told if name in shown and good[name].notna().all()]
    out.append(_limits(tasks, seeds))
    return out


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _size(methods: int, tasks: int, seeds: int) -> str:
    were = f"{_many(methods, 'method')} {'was' if methods == 1 else 'were'}"
    return f"{were} asked to forget in {_many(tasks, 'task')}, with {_many(seeds, 'training seed')} each."


def _ranks(good: pd.DataFrame) -> str:
    first = good.loc[good["rank"] == 1, "method"].tolist()
    said = f"{listed(first)} {'leads' if len(first) == 1 else 'share the first rank'} on {ranked(good)}"
    if len(first) > 1:
        said += ": a paired bootstrap can't tell them apart"
    behind = [
        f"{_many(int(row['rank']) - 1, 'method')} {'is' if row['rank'] == 2 else 'are'} better than {row['method']}"
        for row in good[good["rank"] > 1].to_dict("records")
    ]
    return f"{said}; beyond chance, {listed(behind)}." if behind else f"{said}."


def _range(good: pd.DataFrame, column: Column) -> str:
    low, high = good[column.name].min(), good[column.name].max()
    if len(good) == 1:
        return f"The forgotten concept is gone from {low:.{column.digits}f} % of its images (UA)."
    return (
        f"The forgotten concept is gone from {low:.{column.digits}f} to {high:.{column.digits}f} % of its images (UA)."
    )


def _apart(good: pd.DataFrame, column: Column) -> str:
    """The method with the best mean, and the methods whose whole interval is worse than the interval of the best."""
    sign = 1 if column.arrow == "↑" else -1
    best = good.iloc[int((sign * good[column.name]).to_numpy().argmax())]
    near, far = ("_lo", "_hi") if sign > 0 else ("_hi", "_lo")
    limit = best[f"{column.name}{near}"]
    figure = f"{best[column.name]:.{column.digits}f}{' %' if column.unit == '%' else ''}"
    equal = good.loc[good[column.name] == best[column.name], "method"].tolist()
    head = f"{label(column)}: best {listed(equal)} ({figure})"
    if pd.isna(limit):
        return f"{head}, without an interval."
    others = good[~good["method"].isin(equal)]
    worse = others.loc[sign * others[f"{column.name}{far}"] < sign * limit, "method"].tolist()
    alike = [name for name in others["method"] if name not in worse]
    if not others.size:
        return f"{head}, all alike."
    if not worse:
        return f"{head}, but every other interval reaches into that one's."
    said = f"{head}, clear of {listed(worse)}"
    return f"{said}, not of {listed(alike)}." if alike else f"{said}."


def _limits(tasks: int, seeds: int) -> str:
    if seeds == 1:
        return "With one training seed, intervals say how much tasks differ, not how much trainings do."
    return "Intervals cover tasks and training seeds."
