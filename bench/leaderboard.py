"""From results to tables: a row per method, per cell, per cell and concept, per checkpoint. Reads results alone."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import curve, derived, nearness, statistics
from methods import CONTROLS
from metrics import COSTS, METRICS, Metric

Result = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """What a run leaves: a row for each method, each cell, each cell and concept, each cell and checkpoint.

    The last has no rows unless checkpoints were measured.
    """

    board: pd.DataFrame
    cells: pd.DataFrame
    concepts: pd.DataFrame
    curve: pd.DataFrame


class MixedFingerprints(ValueError):
    """Results that were not measured alike."""


def require_one_fingerprint(results: Sequence[Result]) -> str:
    """The fingerprint of all results. Raises MixedFingerprints if they have several, ValueError if there are none."""
    found = {result["fingerprint"] for result in results}
    if not found:
        raise ValueError("there are no results")
    if len(found) > 1:
        raise MixedFingerprints(f"results were measured differently and can't share a board: {sorted(found)}")
    return found.pop()


def scaled(metric: Metric, value: float) -> float:
    """A metric's value as boards show it."""
    return value * 100 if metric.unit == "%" else value


def _blank_or(metric: Metric, value: float | None) -> float | None:
    return None if value is None else scaled(metric, value)


def cells_frame(results: Sequence[Result], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per cell, with the figures of `metrics`. Raises ValueError if a cell occurs twice."""
    rows = []
    for result in results:
        row = {name: result[name] for name in ("method", "task", "band", "seed", "status")}
        for metric in map(METRICS.get, metrics):
            score = result["scores"][metric.name] if result["status"] == "ok" else None
            row[metric.name] = scaled(metric, score["value"]) if score else None
            row[f"{metric.name}_n"] = score["n"] if score else None
        row |= {cost.name: cost.of(result) if result["status"] == "ok" else None for cost in COSTS}
        row["compensation"] = result.get("compensation")
        row["reason"], row["traceback"] = result.get("reason"), result.get("traceback")
        row["config"] = json.dumps(result["config"], sort_keys=True)
        row["fingerprint"] = result["fingerprint"]
        rows.append(row)
    frame = pd.DataFrame(rows)
    twice = frame[frame.duplicated(["method", "task", "seed"])]
    if len(twice):
        raise ValueError(f"cells occur twice: {twice[['method', 'task', 'seed']].values.tolist()}")
    counts = [cost.name for cost in COSTS if cost.unit != "s"]
    whole = [c for c in map(str, frame) if c in counts or c.endswith("_n")]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def concepts_frame(results: Sequence[Result], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per finished cell and concept: its role, its distances from the target, its accuracy in %.

    Then the figures of those `metrics` that are a mean over images.
    """
    known = dict.fromkeys(name for result in results for row in result.get("concepts", ()) for name in row["distances"])
    each = [metric for metric in map(METRICS.get, metrics) if metric.each]
    head = ("method", "task", "band", "seed")
    rows = [
        {
            **{name: result[name] for name in head},
            **row,
            **{nearness.PREFIX + name: row["distances"].get(name) for name in known},
            "judge": row["judge"] * 100,
            "accuracy": row["accuracy"] * 100,
            **{metric.name: _blank_or(metric, row[metric.name]) for metric in each},
        }
        for result in results
        for row in result.get("concepts", ())
    ]
    where = [nearness.PREFIX + name for name in known]
    columns = [
        *head,
        "concept",
        "role",
        *where,
        "judge",
        "judge_n",
        "judged_by",
        "accuracy",
        "n",
        *(m.name for m in each),
    ]
    return pd.DataFrame(rows, columns=columns)


def board_frame(results: Sequence[Result], metrics: Sequence[str], note: str) -> pd.DataFrame:
    """One row per method, in order of appearance; `note` says what kind of run it was ("full", "quick").

    `rank` is by H, shared by methods whose difference is within chance; controls have none. It alone depends on the
    other rows.

    Each of `metrics` has mean, interval (NAME_lo, NAME_hi) and the number of images (NAME_n); retention metrics also
    their drop from the pretrained model's value on the same noise. A method with a cell that failed or did not run has
    a status that says so and no figures: a mean over fewer tasks would not compare. A task that asks for nothing that
    a metric could measure counts for no method.
    """
    fingerprint = require_one_fingerprint(results)
    require_same_numbers(results, metrics)
    base = {(r["task"], r["seed"]): r for r in results if r["method"] == "pretrained" and r["status"] == "ok"}
    cells, concepts = cells_frame(results, metrics), concepts_frame(results, metrics)
    dropped, points = nearness.drops(concepts), curve.frame(results, metrics)
    real, rows = judges_on_real_pictures(results), []
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result for result in results if result["method"] == method]
        bad = [result for result in own if result["status"] != "ok"]
        row: dict[str, Any] = {"method": method, "fidelity": own[0]["fidelity"], "status": status_of(own, bad)}
        row[derived.RANK] = None
        ours = [frame[(frame["method"] == method) & (not bad)] for frame in (cells, dropped, points)]
        row |= derived.columns(ours[0], ours[1], ours[2], nearness.distances(concepts))
        for metric in map(METRICS.get, metrics):
            row |= _columns(metric, [] if bad else own, base)
        row["fid_extractor"] = None if bad else own[0]["extractor"]
        row |= real
        row |= {cost.name: None if bad else sum(map(cost.of, own)) / len(own) for cost in COSTS}
        row["compensation"] = None if bad else "; ".join(dict.fromkeys(r["compensation"] for r in own))
        row |= {"cells": len(own), "protocol": note, "fingerprint": fingerprint}
        rows.append(row)
    frame = pd.DataFrame(rows)
    if not len(points):  # nobody asked for curves
        frame = frame.drop(columns=[name for name in map(str, frame) if derived.AT in name])
    whole = frame.loc[(frame["status"] == "ok") & ~frame["method"].isin(CONTROLS), "method"]
    frame[derived.RANK] = frame["method"].map(derived.ranks(cells, list(whole)))
    return frame.astype({name: "Int64" for name in map(str, frame) if name.endswith("_n") or name == derived.RANK})


def judges_on_real_pictures(results: Sequence[Result]) -> dict[str, float | int | None]:
    """Accuracy of the judges, in %, on real pictures of all concepts evaluated: what no model can be seen to exceed.

    Where there are several, also each one's, "judge_NAME", on the concepts that it judges.
    """
    rows = {row["concept"]: row for result in results for row in result.get("concepts", ())}.values()
    names = sorted({row["judged_by"] for row in rows})
    each = {name: [row for row in rows if row["judged_by"] == name] for name in names if len(names) > 1}
    return {"judge": _share(rows), "judge_n": sum(row["judge_n"] for row in rows)} | {
        f"judge_{name}": _share(own) for name, own in each.items()
    }


def _share(rows: Collection[dict[str, Any]]) -> float | None:
    total = sum(row["judge_n"] for row in rows)
    return 100 * sum(row["judge"] * row["judge_n"] for row in rows) / total if total else None


def status_of(own: Sequence[Result], bad: Sequence[Result]) -> str:
    """ "ok", or how many cells failed or were not run."""
    if not bad:
        return "ok"
    kinds = [f"{sum(r['status'] == kind for r in bad)} {kind}" for kind in sorted({r["status"] for r in bad})]
    return f"{', '.join(kinds)} of {len(own)}"


def _columns(metric: Metric, own: Sequence[Result], base: dict[tuple[str, int], Result]) -> dict[str, Any]:
    values: dict[statistics.Cell, tuple[float]] = {}
    drops: dict[statistics.Cell, tuple[float]] = {}
    for result in own:
        score = result["scores"][metric.name]
        if score is None:  # the task asks for nothing to measure: the same for every method
            continue
        value, cell = scaled(metric, score["value"]), (result["task"], result["seed"])
        values[cell] = (value,)
        untouched = base.get(cell)
        if untouched is not None:
            before = scaled(metric, untouched["scores"][metric.name]["value"])
            drops[cell] = (before - value,)
    low, high = scaled(metric, metric.low), scaled(metric, metric.high)
    row = derived.column(metric.name, statistics.of_cells(values, low, high), _images(metric, own))
    if metric.retention:
        known = drops if len(drops) == len(values) else {}
        row |= derived.ends(f"{metric.name}_drop", statistics.of_cells(known, low - high, high - low))
    return row


def _images(metric: Metric, own: Sequence[Result]) -> int | None:
    scores = [result["scores"][metric.name] for result in own]
    counts = [score["n"] for score in scores if score]
    if not counts:
        return None
    return min(counts) if metric.distribution else sum(counts)


def require_same_numbers(results: Sequence[Result], metrics: Sequence[str]) -> None:
    """Raise ValueError where a metric whose bias depends on the number of images had another one in a task's cells."""
    for metric in (metric for metric in map(METRICS.get, metrics) if metric.distribution):
        seen: dict[str, set[int]] = {}
        for result in results:
            if result["status"] == "ok" and (score := result["scores"][metric.name]):
                seen.setdefault(result["task"], set()).add(score["n"])
        for task, counts in seen.items():
            if len(counts) > 1:
                found = ", ".join(map(str, sorted(counts)))
                raise ValueError(f"{metric.name} was measured on different numbers of images in {task!r}: {found}")


def write(
    results: Sequence[Result], metrics: Sequence[str], folder: Path, stem: str, note: str, description: dict[str, Any]
) -> Tables:
    """Write STEM.csv, STEM-cells.csv, STEM-concepts.csv and STEM.json (what the fingerprint stands for).

    And STEM-curve.csv where checkpoints were measured. Returns the tables.
    """
    tables = Tables(
        board_frame(results, metrics, note),
        cells_frame(results, metrics),
        concepts_frame(results, metrics),
        curve.frame(results, metrics),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, frame in {"": tables.board, "-cells": tables.cells, "-concepts": tables.concepts}.items():
        replace(folder / f"{stem}{suffix}.csv", frame.to_csv(index=False, float_format="%.6f"))
    if len(tables.curve):
        replace(folder / f"{stem}-curve.csv", tables.curve.to_csv(index=False, float_format="%.6f"))
    replace(folder / f"{stem}.json", json.dumps(description, indent=1, sort_keys=True))
    return tables


def replace(path: Path, text: str) -> None:
    """Write a file in one step: a reader never sees half of it."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text(text)
    work.replace(path)
