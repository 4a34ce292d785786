"""Makes tables from results. A table has one row per method, per cell, per cell and concept, or per checkpoint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.board import (
    aggregates,
    cell_columns,
    clusters,
    csv_files,
    curve,
    judge_accuracy,
    relearning,
    ripple,
    statistics,
)
from bench.board.columns import Figures, column, counts, ends, flat
from bench.core.filenames import within, without_folders, without_paths
from bench.core.results import CellResult
from bench.core.store import output_files
from methods import REFERENCES
from metrics import COSTS, METRICS, Metric

HEAD = ("method", "task", "band", "seed")  # the first columns of the tables of cells and concepts
CHANGED = "changed"  # column: what finished models change; only on boards that have one


@dataclass(frozen=True)
class Tables:
    """The tables of a board.

    Args:
        board: one row for each method.
        cells: one row for each cell.
        concepts: one row for each finished cell and concept.
        curve: one row for each cell and checkpoint. It is empty if checkpoints were not measured.
        recovered: one row for each point of a fine-tuning of an unlearned model. It is empty if there are no points.
    """

    board: pd.DataFrame
    cells: pd.DataFrame
    concepts: pd.DataFrame
    curve: pd.DataFrame
    recovered: pd.DataFrame


class MixedFingerprints(ValueError):
    """The results have different fingerprints, so they cannot share a board."""


def require_one_fingerprint(results: Sequence[CellResult]) -> str:
    """The common fingerprint of all results.

    Raises MixedFingerprints if the results have different fingerprints, and ValueError if there are no results.
    """
    fingerprints = {result.fingerprint for result in results}
    if not fingerprints:
        raise ValueError("there are no results")
    if len(fingerprints) > 1:
        raise MixedFingerprints(f"results were measured differently and can't share a board: {sorted(fingerprints)}")
    return fingerprints.pop()


def scaled(metric: Metric, value: float) -> float:
    """A metric's value in the unit that boards show: 100 times the value if the unit is %, else the value."""
    return value * 100 if metric.unit == "%" else value


def _blank_or(metric: Metric, value: float | None) -> float | None:
    return None if value is None else scaled(metric, value)


def cells_frame(results: Sequence[CellResult], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per cell, with the columns that identify it (`HEAD` and `cell_columns`) and the figures of `metrics`.

    Each metric has its value (NAME) and its number of images (NAME_n). Then come the costs, `compensation`, `reason`,
    `traceback`, `config` (the settings of the method as JSON) and `fingerprint`. If some cell has warnings, the
    column `warnings` follows `reason`. If some cell has images that show nothing, the column `degenerate` with their
    share follows the costs. If some row is of finished models, so does the column `changed` (`changes`).

    Raises ValueError if a cell occurs twice.
    """
    rows, warned = [], any(result.warnings for result in results)
    degenerate, given = any(result.degenerate for result in results), any(result.differences for result in results)
    for result, more in zip(results, cell_columns.columns(results), strict=True):
        row: dict[str, Any] = {name: getattr(result, name) for name in (*HEAD, "status")} | more
        for metric in map(METRICS.get, metrics):
            score = result.scores[metric.name] if result.ok else None
            row[metric.name] = scaled(metric, score.value) if score else None
            row[f"{metric.name}_n"] = score.n if score else None
        row |= {cost.name: cost.of(result) if result.ok else None for cost in COSTS}
        row |= {"degenerate": 100 * result.degenerate if result.ok else None} if degenerate else {}
        row |= {CHANGED: changes([result])} if given else {}
        row["compensation"] = result.compensation if result.ok else None
        row["reason"] = without_paths(result.reason) if result.reason else None
        row |= {"warnings": without_paths("; ".join(result.warnings)) or None} if warned else {}
        row["traceback"] = result.traceback or None
        config = {k: without_folders(v) if isinstance(v, str) else v for k, v in result.config.items()}
        row["config"] = json.dumps(config, sort_keys=True)
        row["fingerprint"] = result.fingerprint
        rows.append(row)
    frame = pd.DataFrame(rows)
    twice = frame[frame.duplicated(["method", "task", "seed"])]
    if len(twice):
        raise ValueError(f"cells occur twice: {twice[['method', 'task', 'seed']].values.tolist()}")
    whole_numbers = [cost.name for cost in COSTS if cost.unit != "s"] + [f"{name}_n" for name in metrics]
    return frame.astype({name: "Int64" for name in (*whole_numbers, *cell_columns.WHOLE) if name in frame})


def concepts_frame(results: Sequence[CellResult], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per finished cell and concept, with the concept's role, distances from the target and accuracy in %.

    `since` is the number of the request that asked to forget the concept. Only boards of sequences have this column.
    `judge` is the accuracy of the judge `judged_by` on `judge_n` real pictures of the concept, in %. `accuracy` is the
    accuracy on `n` images, in %. The last columns are the figures of those `metrics` that are a mean over images.
    """
    numbers = cell_columns.request_numbers(results)
    distances = dict.fromkeys(name for result in results for one in result.concepts for name in one.distances)
    by_concept = [metric for metric in map(METRICS.get, metrics) if metric.each]
    rows = [
        {
            **{name: getattr(result, name) for name in HEAD},
            **{name: getattr(one, name) for name in ("concept", "role")},
            "since": cell_columns.since(result, one.concept, numbers),
            **{ripple.PREFIX + name: one.distances.get(name) for name in distances},
            "judge": None if one.judge is None else one.judge * 100,
            **{name: getattr(one, name) for name in ("judge_n", "judged_by")},
            **judge_accuracy.of_concept(one),
            "accuracy": one.accuracy * 100,
            "n": one.n,
            **{metric.name: _blank_or(metric, one.figures[metric.name]) for metric in by_concept},
        }
        for result in results
        for one in result.concepts
    ]
    columns = [*HEAD, "concept", "role", *(["since"] if numbers else [])]
    columns += [*(ripple.PREFIX + name for name in distances), "judge", "judge_n", "judged_by"]
    columns += [*(judge_accuracy.UNTOUCHED if judge_accuracy.has_untouched(results) else ()), "accuracy", "n"]
    columns += [metric.name for metric in by_concept]
    return pd.DataFrame(rows, columns=columns).astype({"since": "Int64"} if numbers else {})


def board_frame(results: Sequence[CellResult], metrics: Sequence[str], note: str) -> pd.DataFrame:
    """One row per method, in order of appearance.

    `rank` is computed from H (`aggregates.ranked_by`). Methods that do not differ significantly may share a rank.
    Controls have no rank, nor have
    finished models of only some tasks. `rank` is the only column that depends on the other rows.

    Each of `metrics` has a mean (NAME), an interval (NAME_lo, NAME_hi) and the number of images (NAME_n). A retention
    metric also has its drop from the pretrained model's value on the same noise (NAME_drop, with its interval). If a
    cell of a method failed or did not run, the method's `status` says so. Such a method has no figures, since a mean
    over fewer tasks is not comparable. If a metric cannot be measured on a task, the metric leaves out this task for
    every method.

    Args:
        note: the kind of run ("full", "quick"), for the column `protocol`.

    Raises MixedFingerprints if results have different fingerprints. Raises ValueError if there are no results, or as
    `require_same_numbers` does.
    """
    return _board_frame(results, metrics, note, cells_frame(results, metrics), concepts_frame(results, metrics))


def _board_frame(
    results: Sequence[CellResult], metrics: Sequence[str], note: str, cells: pd.DataFrame, concepts: pd.DataFrame
) -> pd.DataFrame:
    fingerprint = require_one_fingerprint(results)
    require_same_numbers(results, metrics)
    untouched = {(r.task, r.seed): r for r in results if r.method == "pretrained" and r.ok}
    measured = aggregates.measured(results, metrics, cells, concepts)
    judges = judge_accuracy.columns(results)
    rows, whole_numbers = [], {aggregates.RANK: None, "judge_n": None}  # columns of whole numbers, without costs
    for method in dict.fromkeys(result.method for result in results):
        of_method = [result for result in results if result.method == method]
        unfinished = [result for result in of_method if not result.ok]
        finished = [] if unfinished else of_method
        row: dict[str, Any] = {"method": method, "fidelity": of_method[0].fidelity}
        row |= {cell_columns.WAY: of_method[0].multi} if cell_columns.several(results) else {}
        row |= {"status": status_of(of_method), aggregates.RANK: None}
        figures = aggregates.columns(measured.of(method, not unfinished), measured)
        for metric in map(METRICS.get, metrics):
            figures |= _columns(metric, finished, untouched)
        row |= flat(figures)
        whole_numbers |= dict.fromkeys(counts(figures))
        row["fid_extractor"] = finished[0].extractor if finished else None
        row |= judges
        row |= {cost.name: _mean([cost.of(result) for result in finished]) if finished else None for cost in COSTS}
        if any(result.degenerate for result in results):
            row["degenerate"] = 100 * sum(r.degenerate for r in finished) / len(finished) if finished else None
        if any(result.differences for result in results):
            row[CHANGED] = changes(finished)
        row["compensation"] = "; ".join(dict.fromkeys(r.compensation for r in finished)) if finished else None
        row |= {"cells": len(of_method), "protocol": note, "fingerprint": fingerprint}
        rows.append(row)
    frame = pd.DataFrame(rows)
    tasks = {method: {r.task for r in results if r.method == method} for method in frame["method"]}
    fewer = [method for method, own in tasks.items() if len(own) < max(map(len, tasks.values()))]
    compared = frame.loc[(frame["status"] == "ok") & ~frame["method"].isin([*REFERENCES, *fewer]), "method"]
    frame[aggregates.RANK] = frame["method"].map(aggregates.ranks(cells, list(compared)))
    return frame.astype({name: "Int64" for name in whole_numbers if name in frame})


def changes(results: Sequence[CellResult]) -> str | None:
    """Which networks given models change: the number of tensors, and the norm of the change relative to the weights.

    Several models have the mean of each. None for methods, which change what their papers say.
    """
    told = []
    for network in dict.fromkeys(network for result in results for network in result.differences):
        each = [result.differences[network] for result in results if network in result.differences]
        if not any(one["changed"] for one in each):
            continue
        changed, norm = (sum(one[name] for one in each) / len(each) for name in ("changed", "norm"))
        noun = {"unet": "U-Net", "text_encoder": "text encoder"}[network]
        told.append(f"{noun}: {changed:.0f} of {each[0]['total']:.0f} tensors, by {100 * norm:.2g} %")
    return "; ".join(told) or None


def status_of(results: Sequence[CellResult]) -> str:
    """The status of a method with these cells: "ok", or the number of cells for each other status ("2 failed of 9")."""
    unfinished = Counter(result.status for result in results if not result.ok)
    if not unfinished:
        return "ok"
    kinds = [f"{count} {status}" for status, count in sorted(unfinished.items())]
    return f"{', '.join(kinds)} of {len(results)}"


def _columns(metric: Metric, results: Sequence[CellResult], pretrained: dict[tuple[str, int], CellResult]) -> Figures:
    values: dict[statistics.Cell, list[float]] = {}
    drops: dict[statistics.Cell, list[float]] = {}
    for result in results:
        score = result.scores[metric.name]
        if score is None:  # the metric cannot be measured on this task, for any method
            continue
        value, cluster = scaled(metric, score.value), (clusters.of_result(result), result.seed)
        values.setdefault(cluster, []).append(value)
        before = pretrained.get((result.task, result.seed))
        if before is not None and (score := before.scores[metric.name]):
            drops.setdefault(cluster, []).append(scaled(metric, score.value) - value)
    low, high = clusters.limits(metric)
    row = column(metric.name, statistics.of_cells(_means(values), low, high), _images(metric, results))
    if metric.retention:
        known = drops if all(len(drops.get(cluster, ())) == len(each) for cluster, each in values.items()) else {}
        row |= ends(f"{metric.name}_drop", statistics.of_cells(_means(known), low - high, high - low))
    return row


def _mean(counts: Sequence[float | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if len(known) == len(counts) else None


def _means(cells: dict[statistics.Cell, list[float]]) -> dict[statistics.Cell, tuple[float]]:
    return {cluster: (sum(each) / len(each),) for cluster, each in cells.items()}


def _images(metric: Metric, results: Sequence[CellResult]) -> int | None:
    scores = [result.scores[metric.name] for result in results]
    counts = [score.n for score in scores if score]
    if not counts:
        return None
    return min(counts) if metric.distribution else sum(counts)


def require_same_numbers(results: Sequence[CellResult], metrics: Sequence[str]) -> None:
    """Raise ValueError if cells of one task measured a distribution metric on different numbers of images.

    The bias of such a metric (`Metric.distribution`) depends on the number of images, so its values are not comparable.
    """
    for metric in (metric for metric in map(METRICS.get, metrics) if metric.distribution):
        seen: dict[str, set[int]] = {}
        for result in results:
            if result.ok and (score := result.scores[metric.name]):
                seen.setdefault(result.task, set()).add(score.n)
        for task, numbers in seen.items():
            if len(numbers) > 1:
                counted = ", ".join(map(str, sorted(numbers)))
                raise ValueError(f"{metric.name} was measured on different numbers of images in {task!r}: {counted}")


def write(
    results: Sequence[CellResult],
    metrics: Sequence[str],
    folder: Path,
    stem: str,
    note: str,
    description: dict[str, Any],
    further: Callable[[Tables], Mapping[str, str | None]] = lambda tables: {},
) -> Tables:
    """Write the tables of a board to STEM.csv, STEM-cells.csv and STEM-concepts.csv, and its description to STEM.json.

    Also writes STEM-curve.csv if checkpoints were measured, and STEM-recovery.csv if unlearned models were trained
    further. Otherwise removes such a file of an earlier board of the same name. If the disk is full, all files of the
    earlier board stay.

    Args:
        folder: the folder for the files. It is created if it does not exist.
        stem: the name of the board.
        note: the kind of run, as for `board_frame`.
        description: the facts that the fingerprint is computed from, in the types of JSON.
        further: the tables -> what follows the stem in the name of another file -> its text; None: the file is removed.

    Returns the tables. Raises CannotWrite. Their paths are relative to `folder`, or are names of files without folders.
    """
    cells, concepts = cells_frame(results, metrics), concepts_frame(results, metrics)
    files = cells["traceback"]
    cells["traceback"] = [within(folder, file) if isinstance(file, str) and file else file for file in files]
    tables = Tables(
        _board_frame(results, metrics, note, cells, concepts),
        cells,
        concepts,
        curve.frame(results, metrics),
        relearning.frame(results),
    )
    always = {"": tables.board, "-cells": tables.cells, "-concepts": tables.concepts}
    texts: dict[str, str | None] = {
        f"{suffix}.csv": csv_files.text(frame) if suffix in always or len(frame) else None
        for suffix, frame in {**always, "-curve": tables.curve, "-recovery": tables.recovered}.items()
    }
    texts |= {".json": json.dumps(description, indent=1, sort_keys=True), **further(tables)}
    output_files.write({folder / f"{stem}{suffix}": text for suffix, text in texts.items()})
    return tables
