"""Estimates the time of a run from the times of similar cells in its store or in the table of a board."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from bench.cells.outcomes import Outcomes
from bench.core import digest, guidance
from bench.core.config import Protocol
from bench.core.task import Task
from bench.plan.plan import Cell, Plan
from methods import CONTROLS
from methods.base import MethodConfig

BOARDS = Path(__file__).parents[2] / "leaderboards"  # exists in a checkout, but not in an installed package
TABLES = (BOARDS, BOARDS / "reference")  # first the boards of this machine, then the boards in the repository


@dataclass(frozen=True)
class Took:
    """The unlearning of a finished cell: method, settings, number of optimiser steps, and seconds."""

    method: str
    config: Mapping[str, Any]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Ahead:
    """The stored and the missing parts of a cell.

    Args:
        cell: the cell.
        weights, images, result: whether the store has the entry.
        draws: number of images to sample for the cell, including images that methods learn from. An image that
            several cells need is counted for one cell only.
        effort: the same number in images of the untouched model. An image counts more if a method that acts while it
            is sampled takes more forward passes.
        seconds: time of the unlearning; None if no cell of the method is known.
    """

    cell: Cell
    weights: bool
    images: bool
    result: bool
    draws: int
    effort: float
    seconds: float | None


def ahead(outcomes: Outcomes, past: Past) -> list[Ahead]:
    """The stored and the missing parts of every cell of the plan, in the plan's order."""
    plan, artifacts, store = outcomes.plan, outcomes.artifacts, outcomes.store
    seen: set[str] = set()  # image sets and weights that an earlier cell computes
    cells = []
    for cell in plan.cells:
        forced = cell.method in plan.recompute
        weights = None if forced else store.get("deltas", artifacts.weights.key(cell), verify=False)
        result = weights is not None and outcomes.is_complete(cell, weights)
        curve = plan.curve > 1 and not result
        images = weights is not None and store.has("images", artifacts.images.key(weights))
        thin = (
            weights is not None
            and not result
            and not images
            and store.tensors_discarded("deltas", artifacts.weights.key(cell))
        )
        held = weights if not thin else None  # imported figures have no weights, so they are computed again
        trains = plan.trains(cell)
        to_learn_from = 0 if held or not trains else _to_learn_from(outcomes, cell, seen)
        draws = 0  # with the cell's model
        shared = str(store.path("images", artifacts.images.key(weights))) if weights else cell.method
        is_control = plan.base_method(cell.method) in CONTROLS and cell.task.finetune is None
        if not images and not (shared in seen and (weights or is_control)):
            draws += len(outcomes.context.specs)
        seen |= {shared, cell.method}  # a control has the same weights for every task
        again = False  # whether the cell trains again because the store lacks its snapshots
        if curve and trains:
            passing = [artifacts.snapshot.key(cell, part, plan.curve) for part in range(1, plan.curve)]
            again = not all(store.get("snapshots", key, verify=False) for key in passing)
            draws += len(passing) * sum(map(plan.curve_images, cell.task.forget + cell.task.in_domain))
        seconds = held.facts["cost"]["seconds"] if held else _to_make(outcomes, cell, past, seen)
        effort = to_learn_from + draws * _passes(plan, cell)
        cells.append(
            Ahead(cell, held is not None and not again, images, result, to_learn_from + draws, effort, seconds)
        )
    return cells


def summary(cells: Sequence[Ahead], past: Past, workers: int) -> str:
    """A text for people: the numbers of all, stored and missing cells, and the estimated minutes with `workers`.

    The text names the parts of the run whose time is not known.
    """
    to_do = [a for a in cells if not a.result]
    counts = f"{len(cells)} cells: {len(cells) - len(to_do)} stored, {len(to_do)} to do"
    if not to_do:
        return counts
    new = [a for a in to_do if not a.weights]
    draws = sum(a.draws for a in to_do)
    if not new and not draws:
        return f"{counts}; nothing to train or to sample"
    known = [a.seconds for a in new if a.seconds is not None]
    unknown = list(dict.fromkeys(a.cell.method for a in new if a.seconds is None))
    drawing = past.drawing(sum(a.effort for a in to_do))
    missing = [f"unlearning by {', '.join(unknown)}"] if unknown else []
    missing += [f"sampling {draws} images"] if drawing is None else []
    if not any(known) and not drawing:
        return f"{counts}; the time is not known, because neither the store nor a table has similar cells"
    minutes = max((sum(known) + (drawing or 0)) / workers, _longest(new)) / 60
    time = f"{'more than' if missing else 'about'} {minutes:.1f} min with {workers} worker(s)"
    sources = "; ".join(sorted(past.used))
    unknown_parts = f"; not included, because the time is not known: {', '.join(missing)}" if missing else ""
    return f"{counts}; {time}, estimated from {sources}{unknown_parts}"


def _longest(cells: Sequence[Ahead]) -> float:
    """Seconds of the longest chain of cells that start from each other's weights, which can't run in parallel."""
    ends: dict[tuple[str, Task, int], float] = {}
    for a in cells:  # in the plan's order a cell comes after the cell whose weights it starts from
        method, task, seed = a.cell.method, a.cell.task, a.cell.seed
        before = ends.get((method, task.after, seed), 0.0) if task.after else 0.0
        ends[method, task, seed] = before + (a.seconds or 0.0)
    return max(ends.values(), default=0.0)


def work(outcomes: Outcomes) -> float | None:
    """Seconds that one worker needs for everything that is not stored; None if that is not known."""
    past = Past(outcomes)
    to_do = [a for a in ahead(outcomes, past) if not a.result]
    drawing = past.drawing(sum(a.effort for a in to_do))
    new = [a.seconds for a in to_do if not a.weights]
    return None if drawing is None or None in new else drawing + sum(seconds for seconds in new if seconds)


class Past:
    """The times of cells that were computed before.

    Args:
        outcomes: the outcomes of the run to estimate. The times come from its store. If the store has none, they come
            from a table in the run's folder or in `tables`.
        tables: folders with tables of boards. A table of the run's suite and world is preferred to another of its
            world.
    """

    def __init__(self, outcomes: Outcomes, tables: Sequence[Path] = TABLES) -> None:
        self._plan, self.store = outcomes.plan, str(outcomes.store.root)
        self._outcomes, self._table = outcomes, _table(outcomes, tables)
        self.used: set[str] = set()  # sources of the estimates so far, for people
        self._medians: dict[tuple[str, MethodConfig, int, int], float | None] = {}

    def unlearning(self, cell: Cell, forget_images: int) -> float | None:
        """Seconds that the cell's unlearning takes; None if no cell of its method is known.

        This is the median over known cells with the same settings, or over all known cells of the method. The time of
        each known cell is scaled in proportion to the number of training examples.
        """
        inputs = (self._plan.base_method(cell.method), cell.config, forget_images, len(cell.task.request))
        if inputs not in self._medians:
            self._medians[inputs] = self._median(*inputs)
        return self._medians[inputs]

    def _median(self, method: str, config: MethodConfig, forget_images: int, concepts: int) -> float | None:
        settings = digest.plain(config)
        for source, known in self._known:
            of_method = [took for took in known if took.method == method]
            if not of_method:
                continue
            self.used.add(source)
            similar = [took for took in of_method if took.config == settings] or of_method
            examples = _examples(settings, forget_images, concepts)
            return median(took.seconds * (examples / seen if (seen := _examples_seen(took)) else 1) for took in similar)
        return None

    def further(self) -> float | None:
        """Seconds of training an unlearned model further; None if not known.

        The estimate counts passes through the U-Net, and a backward pass as two.
        """
        protocol = self._plan.protocol
        passes = 3 * protocol.finetune_steps * protocol.finetune_batch
        drawing = self.drawing(1)
        each = protocol.num_inference_steps * guidance.passes(protocol.guidance_scale)
        return None if drawing is None else drawing * passes / each

    def drawing(self, count: float) -> float | None:
        """Seconds of sampling `count` images of the untouched model; None if not known.

        The estimate follows the images in the store. If there are none, it follows the time that training took for the
        same number of passes through the U-Net.
        """
        each, source = self._image
        if each is None:
            return None if count else 0.0
        self.used.add(source)
        return each * count

    @cached_property
    def _known(self) -> list[tuple[str, list[Took]]]:
        """Each source and the cells that it knows. They are read on first use; a complete store never needs them."""
        of_table = [(str(self._table), list(_in_table(self._table)))] if self._table else []
        return [(self.store, list(_in_store(self._outcomes))), *of_table]

    @cached_property
    def _image(self) -> tuple[float | None, str]:
        """Seconds of sampling one image, or None if not known, and the source of this time."""
        each = _seconds_an_image(self._outcomes)
        if each is None and self._table:
            return _as_in_training(self._table, self._plan.protocol), str(self._table)
        return each, self.store


def _to_make(outcomes: Outcomes, cell: Cell, past: Past, seen: set[str]) -> float | None:
    """Seconds until the weights of a cell are trained; None if not known.

    Weights that several cells start from are counted for one cell only.
    """
    images, task = outcomes.plan.protocol.forget_images, cell.task
    if not outcomes.plan.trains(cell):
        return 0.0
    if task.finetune is None or task.after is None:
        return past.unlearning(cell, images)
    before = dataclasses.replace(cell, task=task.after)
    path = str(outcomes.store.path("deltas", outcomes.artifacts.weights.key(before)))
    done = path in seen or Path(path).exists() or not outcomes.plan.trains(before)
    seen.add(path)
    parts = [past.further(), 0.0 if done else past.unlearning(before, images)]
    return None if None in parts else sum(part for part in parts if part)


def _to_learn_from(outcomes: Outcomes, cell: Cell, seen: set[str]) -> int:
    count = outcomes.plan.protocol.forget_images
    draws = 0
    for concept in cell.task.request:
        path = outcomes.store.path("latents", outcomes.artifacts.latents.key(concept, count))
        draws += 0 if path.exists() or str(path) in seen else count
        seen.add(str(path))
    return draws


def _examples(config: Mapping[str, Any], forget_images: int, concepts: int) -> int:
    if config["steps"] is not None:
        return config["steps"] * concepts * config["batch_size"] * config["grad_accumulation"]
    return config["epochs"] * forget_images * concepts


def _examples_seen(took: Took) -> int:
    return took.steps * took.config["batch_size"] * took.config["grad_accumulation"]


def _records(outcomes: Outcomes, kind: str) -> Iterator[dict[str, Any]]:
    for file in sorted((outcomes.store.root / kind).glob("*/record.json")):
        try:
            yield json.loads(file.read_text())
        except (OSError, ValueError):  # a damaged entry: the run will notice and compute it again
            continue


def _in_store(outcomes: Outcomes) -> Iterator[Took]:
    here = outcomes.context.machine
    for record in _records(outcomes, "deltas"):
        key = record["key"]
        comparable = key["backbone"] == outcomes.context.content and "method" in key
        if comparable and all(key["machine"][name] == here[name] for name in ("device", "dtype")):
            cost = record["facts"]["cost"]
            yield Took(key["method"], key["config"], cost["steps"], cost["seconds"])


def _passes(plan: Plan, cell: Cell) -> float:
    """Forward passes for one image of the cell's model, in passes for one image of the untouched model."""
    scale = plan.protocol.guidance_scale
    return plan.methods[cell.method](cell.config).passes(scale) / guidance.passes(scale)


def _seconds_an_image(outcomes: Outcomes) -> float | None:
    """Median over the stored image sets of the seconds for one image, as if of the untouched model."""
    usual = guidance.passes(outcomes.plan.protocol.guidance_scale)
    relevant = digest.plain(
        {k: v for k, v in outcomes.artifacts.images.key(None).items() if k in ("backbone", "sampler", "machine")}
    )
    seconds = [
        record["facts"]["seconds"] / record["facts"]["count"] * usual / record["facts"].get("passes", usual)
        for record in _records(outcomes, "images")
        if "count" in record["facts"] and all(record["key"][name] == value for name, value in relevant.items())
    ]
    return median(seconds) if seconds else None


def _as_in_training(table: Path, protocol: Protocol) -> float | None:
    """Seconds of sampling one image, from the training times of a table's cells; None if the table lacks them.

    A backward pass counts as two passes, and guidance may double the passes of sampling.
    """
    from bench.board import csv_files  # pandas takes half a second to import, and a complete store does not need it

    frame = csv_files.read(table)
    if not {"student_forwards", "teacher_forwards"} <= set(frame):
        return None
    rates = []
    for row in frame[(frame["status"] == "ok") & (frame["steps"] > 0)].to_dict("records"):
        config = json.loads(row["config"])
        back = row["steps"] * config["grad_accumulation"]
        passes = config["batch_size"] * (row["student_forwards"] + row["teacher_forwards"] + 2 * back)
        rates.append(row["seconds"] / passes)
    passes = guidance.passes(protocol.guidance_scale) * protocol.num_inference_steps
    return median(rates) * passes if rates else None


def _table(outcomes: Outcomes, folders: Sequence[Path]) -> Path | None:
    """The table of cells to estimate from: the first one in the run's folder, or else in `folders`; None without one.

    In each folder the table of the run's suite comes first, then other tables of its world, then those of quick boards.
    """
    run = outcomes.plan.run
    if run.backbone is not None:
        return None
    for folder in (run.out, *folders):
        world = run.world_name
        others = sorted(folder.glob(f"*-{world}-cells.csv")) + sorted(folder.glob(f"*-{world}-quick-cells.csv"))
        for file in (folder / f"{run.suite}-{world}-cells.csv", *others):
            if file.is_file():
                return file
    return None


def _in_table(file: Path) -> Iterator[Took]:
    from bench.board import csv_files

    frame = csv_files.read(file)
    counted = (frame["status"] == "ok") & frame["steps"].notna()  # the steps of an oracle are not known
    for row in frame[counted].to_dict("records"):
        yield Took(row["method"], json.loads(row["config"]), int(row["steps"]), float(row["seconds"]))
