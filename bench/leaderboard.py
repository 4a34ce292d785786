"""From results to tables: one row per method, one per cell, one per cell and concept. Reads results, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.interval import clustered_interval
from metrics import COSTS, METRICS, Metric

Result = dict[str, Any]


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
    """One row per finished cell and concept: its role, its closeness to the target, its accuracy in %.

    Then the figures of those `metrics` that are a mean over images.
    """
    each = [metric for metric in map(METRICS.get, metrics) if metric.each]
    head = ("method", "task", "band", "seed")
    rows = [
        {
            **{name: result[name] for name in head},
            **row,
            "judge": row["judge"] * 100,
            "accuracy": row["accuracy"] * 100,
            **{metric.name: _blank_or(metric, row[metric.name]) for metric in each},
        }
        for result in results
        for row in result.get("concepts", ())
    ]
    columns = [*head, "concept", "role", "closeness", "judge", "judge_n", "accuracy", "n", *(m.name for m in each)]
    return pd.DataFrame(rows, columns=columns)


def board_frame(results: Sequence[Result], metrics: Sequence[str], note: str) -> pd.DataFrame:
    """One row per method, in order of appearance; `note` says what kind of run it was ("full", "quick").

    Each of `metrics` has mean, interval (NAME_lo, NAME_hi) and the number of images (NAME_n); retention metrics also
    their drop from the pretrained model's value on the same noise. A method with a cell that failed or did not run has
    a status that says so and no figures: a mean over fewer tasks would not compare. A task that asks for nothing that
    a metric could measure counts for no method.
    """
    fingerprint = require_one_fingerprint(results)
    base = {(r["task"], r["seed"]): r for r in results if r["method"] == "pretrained" and r["status"] == "ok"}
    real, rows = judges_on_real_pictures(results), []
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result for result in results if result["method"] == method]
        bad = [result for result in own if result["status"] != "ok"]
        row: dict[str, Any] = {"method": method, "fidelity": own[0]["fidelity"], "status": status_of(own, bad)}
        for metric in map(METRICS.get, metrics):
            row |= _columns(metric, [] if bad else own, base)
        row["fid_extractor"] = None if bad else own[0]["extractor"]
        row |= real
        row |= {cost.name: None if bad else sum(map(cost.of, own)) / len(own) for cost in COSTS}
        row["compensation"] = None if bad else "; ".join(dict.fromkeys(r["compensation"] for r in own))
        row |= {"cells": len(own), "protocol": note, "fingerprint": fingerprint}
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in map(str, frame) if column.endswith("_n")})


def judges_on_real_pictures(results: Sequence[Result]) -> dict[str, float | int | None]:
    """Accuracy of the judges, in %, on real pictures of all concepts evaluated: what no model can be seen to exceed."""
    seen = {row["concept"]: (row["judge"], row["judge_n"]) for result in results for row in result.get("concepts", ())}
    total = sum(n for _, n in seen.values())
    return {"judge": 100 * sum(share * n for share, n in seen.values()) / total if seen else None, "judge_n": total}


def status_of(own: Sequence[Result], bad: Sequence[Result]) -> str:
    """ "ok", or how many cells failed or were not run."""
    if not bad:
        return "ok"
    kinds = [f"{sum(r['status'] == kind for r in bad)} {kind}" for kind in sorted({r["status"] for r in bad})]
    return f"{', '.join(kinds)} of {len(own)}"


def _columns(metric: Metric, own: Sequence[Result], base: dict[tuple[str, int], Result]) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    drops: dict[str, list[float]] = {}
    for result in own:
        score = result["scores"][metric.name]
        if score is None:  # the task asks for nothing to measure: the same for every method
            continue
        value = scaled(metric, score["value"])
        values.setdefault(result["task"], []).append(value)
        untouched = base.get((result["task"], result["seed"]))
        if untouched is not None:
            before = scaled(metric, untouched["scores"][metric.name]["value"])
            drops.setdefault(result["task"], []).append(before - value)
    row = _interval(metric.name, list(values.values()))
    row[f"{metric.name}_n"] = _images(metric, own)
    if metric.retention:
        row |= _interval(f"{metric.name}_drop", list(drops.values()) if len(drops) == len(values) else [])
    return row


def _images(metric: Metric, own: Sequence[Result]) -> int | None:
    scores = [result["scores"][metric.name] for result in own]
    counts = [score["n"] for score in scores if score]
    if not counts:
        return None
    if not metric.distribution:
        return sum(counts)
    if len(set(counts)) > 1:
        raise ValueError(f"{metric.name} was measured on different numbers of images: {sorted(set(counts))}")
    return counts[0]


def _interval(name: str, clusters: list[list[float]]) -> dict[str, float | None]:
    mean, low, high = clustered_interval(clusters) if clusters else (None, None, None)
    return {name: mean, f"{name}_lo": low, f"{name}_hi": high}


def write(
    results: Sequence[Result], metrics: Sequence[str], folder: Path, stem: str, note: str, description: dict[str, Any]
) -> pd.DataFrame:
    """Write STEM.csv, STEM-cells.csv, STEM-concepts.csv and STEM.json (what the fingerprint stands for).

    Returns the board.
    """
    board = board_frame(results, metrics, note)
    folder.mkdir(parents=True, exist_ok=True)
    frames = {"": board, "-cells": cells_frame(results, metrics), "-concepts": concepts_frame(results, metrics)}
    for suffix, frame in frames.items():
        _replace(folder / f"{stem}{suffix}.csv", frame.to_csv(index=False, float_format="%.6f"))
    _replace(folder / f"{stem}.json", json.dumps(description, indent=1, sort_keys=True))
    return board


def _replace(path: Path, text: str) -> None:
    work = path.with_name(f".{path.name}.{os.getpid()}")  # a reader never sees half a table
    work.write_text(text)
    work.replace(path)
