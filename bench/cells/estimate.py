"""How long a run will take, from how long the like of it took: in this store, or in a committed table."""

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
from bench.plan.plan import Cell
from methods import REFERENCES
from methods.base import MethodConfig

BOARDS = Path(__file__).parents[2] / "leaderboards"  # of a checkout; an installed package has no such folder
TABLES = (BOARDS, BOARDS / "reference")  # this machine's own boards first, then those that the repository ships


@dataclass(frozen=True)
class Took:
    """One cell's unlearning: its settings, the optimiser steps it made, its seconds."""

    method: str
    config: Mapping[str, Any]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Ahead:
    """What of a cell is in the store, and what is still to do.

    Args:
        weights, images, result: whether the stage is stored.
        draws: images to draw for it, those that methods learn from included; each is counted for one cell only.
        seconds: that unlearning takes, or took; None where no cell of the method is known.
    """

    cell: Cell
    weights: bool
    images: bool
    result: bool
    draws: int
    seconds: float | None


def ahead(outcomes: Outcomes, past: Past) -> list[Ahead]:
    """Every cell of the plan, in its order."""
    plan, artifacts, store = outcomes.plan, outcomes.artifacts, outcomes.store
    seen: set[str] = set()  # image sets that an earlier cell draws
    found = []
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
        held = weights if not thin else None  # figures taken over came without weights, which are made again
        trains = cell.task.finetune or plan.base_method(cell.method) not in REFERENCES
        draws = 0 if held or not trains else _to_learn_from(outcomes, cell, seen)
        shared = str(store.path("images", artifacts.images.key(weights))) if weights else cell.method
        if not images and not (shared in seen and (weights or not trains)):
            draws += len(outcomes.context.specs)
        seen |= {shared, cell.method}  # a control leaves the same weights whatever the task
        again = False  # it trains once more, where it kept none of the weights on the way
        if curve and trains:
            passing = [artifacts.snapshot.key(cell, part, plan.curve) for part in range(1, plan.curve)]
            again = not all(store.get("snapshots", key, verify=False) for key in passing)
            draws += len(passing) * sum(map(plan.curve_images, cell.task.forget + cell.task.in_domain))
        seconds = held.facts["cost"]["seconds"] if held else _to_make(outcomes, cell, past, seen)
        found.append(Ahead(cell, held is not None and not again, images, result, draws, seconds))
    return found


def summary(cells: Sequence[Ahead], past: Past, workers: int) -> str:
    """Cells in all, stored and to do, and the minutes that are left with so many workers; says what is not known."""
    to_do = [a for a in cells if not a.result]
    counts = f"{len(cells)} cells: {len(cells) - len(to_do)} stored, {len(to_do)} to do"
    if not to_do:
        return counts
    new = [a for a in to_do if not a.weights]
    draws = sum(a.draws for a in to_do)
    if not new and not draws:
        return f"{counts}; nothing to train or to draw"
    known = [a.seconds for a in new if a.seconds is not None]
    unknown = list(dict.fromkeys(a.cell.method for a in new if a.seconds is None))
    drawing = past.drawing(draws)
    missing = [f"unlearning by {', '.join(unknown)}"] if unknown else []
    missing += [f"drawing {draws} images"] if drawing is None else []
    if not any(known) and not drawing:
        return f"{counts}; how long that takes is not known: nothing like it is stored, or in a table"
    minutes = max((sum(known) + (drawing or 0)) / workers, _longest(new)) / 60
    said = f"{counts}; {'more than' if missing else 'about'} {minutes:.1f} min with {workers} worker(s)"
    sources = "; ".join(sorted(past.used))
    return f"{said}, as on the machine of {sources}" + (f"; not known: {', '.join(missing)}" if missing else "")


def _longest(cells: Sequence[Ahead]) -> float:
    """Seconds of the longest row of cells that each start from the last one's weights: no worker can share it."""
    ends: dict[tuple[str, Task, int], float] = {}
    for a in cells:  # in the plan's order a cell comes after the one that it starts from
        method, task, seed = a.cell.method, a.cell.task, a.cell.seed
        before = ends.get((method, task.after, seed), 0.0) if task.after else 0.0
        ends[method, task, seed] = before + (a.seconds or 0.0)
    return max(ends.values(), default=0.0)


def work(outcomes: Outcomes) -> float | None:
    """Seconds that one worker would take for all that is not stored; None where that is not known."""
    past = Past(outcomes)
    to_do = [a for a in ahead(outcomes, past) if not a.result]
    drawing = past.drawing(sum(a.draws for a in to_do))
    new = [a.seconds for a in to_do if not a.weights]
    return None if drawing is None or None in new else drawing + sum(seconds for seconds in new if seconds)


class Past:
    """How long the stages of a run took elsewhere.

    Args:
        outcomes: of the run. Its store is looked at first, then the tables in its folder and in `tables`: the board of
            its own suite and world, or any of its world.
    """

    def __init__(self, outcomes: Outcomes, tables: Sequence[Path] = TABLES) -> None:
        self._plan, self.store = outcomes.plan, str(outcomes.store.root)
        self._outcomes, self._table = outcomes, _table(outcomes, tables)
        self.used: set[str] = set()  # where the figures given so far came from
        self._said: dict[tuple[str, MethodConfig, int, int], float | None] = {}

    def unlearning(self, cell: Cell, forget_images: int) -> float | None:
        """Seconds that the cell takes to unlearn; None where no cell of its method is known.

        The median of cells with the same settings, otherwise of all, in proportion to the examples trained on.
        """
        asked = (self._plan.base_method(cell.method), cell.config, forget_images, len(cell.task.request))
        if asked not in self._said:
            self._said[asked] = self._median(*asked)
        return self._said[asked]

    def _median(self, method: str, config: MethodConfig, forget_images: int, concepts: int) -> float | None:
        settings = digest.plain(config)
        for source, known in self._known:
            own = [took for took in known if took.method == method]
            if not own:
                continue
            self.used.add(source)
            own = [took for took in own if took.config == settings] or own
            wanted = _examples(settings, forget_images, concepts)
            return median(took.seconds * (wanted / made if (made := _made(took)) else 1) for took in own)
        return None

    def further(self) -> float | None:
        """Seconds that training an unlearned model further takes: a pass back counts as two; None: not known."""
        protocol = self._plan.protocol
        passes = 3 * protocol.finetune_steps * protocol.finetune_batch
        drawing = self.drawing(1)
        each = protocol.num_inference_steps * guidance.passes(protocol.guidance_scale)
        return None if drawing is None else drawing * passes / each

    def drawing(self, count: int) -> float | None:
        """Seconds that drawing `count` images takes; None where nothing like it is known.

        As the store's own images took; otherwise as long as training took for as many passes through the U-Net.
        """
        each, source = self._image
        if each is None:
            return None if count else 0.0
        self.used.add(source)
        return each * count

    @cached_property
    def _known(self) -> list[tuple[str, list[Took]]]:
        """What is known of cells, by where it is from; read when first asked for, which is seldom in a full store."""
        of_table = [(str(self._table), list(_in_table(self._table)))] if self._table else []
        return [(self.store, list(_in_store(self._outcomes))), *of_table]

    @cached_property
    def _image(self) -> tuple[float | None, str]:
        """Seconds that an image takes, and where that is from."""
        each = _seconds_an_image(self._outcomes)
        if each is None and self._table:
            return _as_in_training(self._table, self._plan.protocol), str(self._table)
        return each, self.store


def _to_make(outcomes: Outcomes, cell: Cell, past: Past, seen: set[str]) -> float | None:
    """Seconds until a cell has its weights, those that it starts from counted for one cell only; None: not known."""
    images, task = outcomes.plan.protocol.forget_images, cell.task
    if outcomes.plan.base_method(cell.method) in REFERENCES and task.finetune is None:
        return 0.0  # nothing is trained: an oracle was beforehand
    if task.finetune is None or task.after is None:
        return past.unlearning(cell, images)
    before = dataclasses.replace(cell, task=task.after)
    place = str(outcomes.store.path("deltas", outcomes.artifacts.weights.key(before)))
    done = place in seen or Path(place).exists() or outcomes.plan.base_method(cell.method) in REFERENCES
    seen.add(place)
    parts = [past.further(), 0.0 if done else past.unlearning(before, images)]
    return None if None in parts else sum(part for part in parts if part)


def _to_learn_from(outcomes: Outcomes, cell: Cell, seen: set[str]) -> int:
    count = outcomes.plan.protocol.forget_images
    draws = 0
    for concept in cell.task.request:
        place = outcomes.store.path("latents", outcomes.artifacts.latents.key(concept, count))
        draws += 0 if place.exists() or str(place) in seen else count
        seen.add(str(place))
    return draws


def _examples(config: Mapping[str, Any], forget_images: int, concepts: int) -> int:
    if config["steps"] is not None:
        return config["steps"] * concepts * config["batch_size"] * config["grad_accumulation"]
    return config["epochs"] * forget_images * concepts


def _made(took: Took) -> int:
    return took.steps * took.config["batch_size"] * took.config["grad_accumulation"]


def _records(outcomes: Outcomes, kind: str) -> Iterator[dict[str, Any]]:
    for file in sorted((outcomes.store.root / kind).glob("*/record.json")):
        try:
            yield json.loads(file.read_text())
        except (OSError, ValueError):  # a damaged entry: the run will find out and compute it again
            continue


def _in_store(outcomes: Outcomes) -> Iterator[Took]:
    here = outcomes.context.machine
    for record in _records(outcomes, "deltas"):
        key = record["key"]
        alike = key["backbone"] == outcomes.context.content and "method" in key
        if alike and all(key["machine"][name] == here[name] for name in ("device", "dtype")):
            cost = record["facts"]["cost"]
            yield Took(key["method"], key["config"], cost["steps"], cost["seconds"])


def _seconds_an_image(outcomes: Outcomes) -> float | None:
    wanted = digest.plain(
        {k: v for k, v in outcomes.artifacts.images.key(None).items() if k in ("backbone", "sampler", "machine")}
    )
    found = [
        record["facts"]["seconds"] / record["facts"]["count"]
        for record in _records(outcomes, "images")
        if "count" in record["facts"] and all(record["key"][name] == value for name, value in wanted.items())
    ]
    return median(found) if found else None


def _as_in_training(table: Path, protocol: Protocol) -> float | None:
    """Seconds an image, from a table's cells: a pass back counts as two, and guidance doubles those of sampling."""
    import pandas as pd  # here and below: half a second, for a store that knows better

    frame = pd.read_csv(table)
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
    """The table of cells to estimate from: the first that is found in the run's own folder, then in `folders`.

    In each folder this suite's table comes first, then any other of this world, quick boards last.
    """
    run = outcomes.plan.run
    if run.backbone is not None:
        return None
    for place in (run.out, *folders):
        others = sorted(place.glob(f"*-{run.world}-cells.csv")) + sorted(place.glob(f"*-{run.world}-quick-cells.csv"))
        for file in (place / f"{run.suite}-{run.world}-cells.csv", *others):
            if file.is_file():
                return file
    return None


def _in_table(file: Path) -> Iterator[Took]:
    import pandas as pd

    frame = pd.read_csv(file)
    counted = (frame["status"] == "ok") & frame["steps"].notna()  # nobody counted an oracle's
    for row in frame[counted].to_dict("records"):
        yield Took(row["method"], json.loads(row["config"]), int(row["steps"]), float(row["seconds"]))
