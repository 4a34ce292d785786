"""Boards of several concepts at once, of requests in sequence, of fine-tunings and of a sweep, for their pages.

Figures follow from names, so that they differ as measured ones do and are the same every time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.board import tables as board_tables
from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.core.results import CellResult, CurvePoint, FinetuningProbe, SequenceStep
from bench.core.task import Task
from bench.plan.plan import Cell, resolve
from bench.report.page import document
from bench.worlds import World
from methods import CONTROLS, METHODS, ORACLE
from support.requested import DRIFT, NAMES, result
from support.results import concept, scores
from support.tiny import variant

EVERY = (*CONTROLS, "mimmu", "mimmu-retain", "salun", "esd-x", "esd-u", "sdd")
SEEDS = (0, 1)
NOTHING = {"pretrained": 0.0, "wrecked": 1.0, ORACLE: 1.0}  # UA of those that forget nothing, or all
USUAL: dict[str, dict[str, Any]] = {"mimmu": {"lr": 1e-5, "t_max": 600}, "salun": {"trains": "full"}}
Board = tuple[list[Task], list[CellResult]]


def wave(*what: object) -> float:
    """A number from 0 to 1 that follows from `what`."""
    return (math.sin(sum(ord(letter) * (i + 1) for i, letter in enumerate(repr(what)))) + 1) / 2


def task(world: World, name: str, forget: Sequence[str], band: str = "") -> Task:
    """Forget some concepts of a world and keep all others."""
    near = {one for asked in forget for one in world.domains[world.domain_of(asked)]}
    kept = [one for one in world.concepts if one not in forget]
    return Task(name, tuple(forget), tuple(c for c in kept if c in near), tuple(c for c in kept if c not in near), band)


def cell(one: Task, method: str, seed: int, gone: dict[str, float] | None = None, **more: Any) -> CellResult:
    """A finished cell, of which `gone` says the UA of each forgotten concept."""
    gone = gone or dict.fromkeys(one.forget, NOTHING.get(method, 0.8 + 0.2 * wave(method, one.name, seed)))
    hurt = {"pretrained": 0.0, "wrecked": 0.9}.get(method, 0.25 * wave(method, one.name) + 0.03 * len(one.forget))
    kept = {"in_domain": (one.in_domain, hurt), "out_of_domain": (one.out_of_domain, hurt / 3)}
    shown = [concept(name, "forget", 1 - ua, figures=DRIFT) for name, ua in gone.items()]
    shown += [
        concept(name, role, 1 - lost * wave(name), figures=DRIFT)
        for role, (names, lost) in kept.items()
        for name in names
    ]
    figures = {"ua": sum(gone.values()) / len(gone), "nra": 1 - hurt, "twin": 1 - hurt * wave(one.name),
              "ora": 1 - hurt / 3, "drift": hurt / 5}  # fmt: skip
    more.setdefault("config", USUAL.get(method, {}))
    own = {"seconds": 0.0 if method in CONTROLS else 20 + 60 * wave(method), "band": one.band, "concepts": tuple(shown)}
    return result(method, one.name, one.forget, seed, **figures, **own, **more)


def sets(world: World, names: Sequence[str] = EVERY, sizes: Sequence[int] = (1, 2, 4)) -> Board:
    """Two requests each of some numbers of concepts at once."""
    ways = {"esd-x": "alternate", "sdd": "closed_form"}
    tasks = [
        task(world, f"{k} at once, {i}", world.concepts[i * k : (i + 1) * k], f"{k} at once")
        for k in sizes
        for i in range(2)
    ]
    return tasks, [cell(one, m, s, multi=ways.get(m, "joint")) for s in SEEDS for one in tasks for m in names]


def chain(world: World, names: Sequence[str] = EVERY, length: int = 5) -> Board:
    """Requests one after another; of what was forgotten some comes back with each."""
    asked = world.concepts[2:12:2][:length]
    tasks = [task(world, f"{i + 1} {asked[i]}", asked[: i + 1]) for i in range(len(asked))]
    results = []
    for seed in SEEDS:
        for number, one in enumerate(tasks, 1):
            step = SequenceStep(" > ".join(asked), number, len(asked), (asked[number - 1],))
            for name in names:
                first = NOTHING.get(name, 1 - 0.2 * wave(name) - 0.05 * seed)
                fade = 0.0 if name in CONTROLS else 0.07 + 0.2 * wave(name, "fade")
                gone = {c: max(first - fade * (number - i), 0.0) for i, c in enumerate(asked[:number], 1)}
                results.append(cell(one, name, seed, gone, step=step))
    return tasks, results


def recovery(world: World, names: Sequence[str] = EVERY, every: int = 1) -> Board:
    """Two concepts forgotten, each model then trained further in seven ways, or every so many of them.

    An oracle is there for what relearns alone.
    """
    ways = [
        *((f"{data}, {how}", data, 0, how) for data in ("retained", "unrelated") for how in ("full", "lora")),
        *((f"{pictures} pictures", "concept", pictures, "full") for pictures in (5, 10, 20)),
    ]
    tasks, results = [], []
    for forgotten in world.concepts[:8:4]:
        tasks.append(task(world, forgotten, [forgotten]))
        results += [cell(tasks[-1], name, seed) for seed in SEEDS for name in names]
        for band, data, pictures, how in ways[::every]:
            tasks.append(task(world, f"{forgotten}: {band}", [forgotten], band))
            probe = FinetuningProbe(forgotten, data, how, pictures, 200)
            for seed in SEEDS:
                for name in (*names, *([ORACLE] if pictures else [])):
                    first = NOTHING.get(name, 0.85 + 0.15 * wave(name, forgotten, seed))
                    speed = 0.0 if name in CONTROLS else 0.1 if name == ORACLE else wave(name, band) + pictures / 40
                    ua = [first * math.exp(-speed * i) for i in range(6)]
                    points = tuple(
                        CurvePoint(i / 5, scores({m: u if m == "ua" else 0.9 for m in NAMES}, 8))
                        for i, u in enumerate(ua)
                    )
                    results.append(cell(tasks[-1], name, seed, {forgotten: ua[-1]}, probe=probe, curve=points))
    return tasks, results


def sweep(
    world: World, rates: Sequence[float] = (1e-6, 1e-5, 1e-4), tried: Sequence[int] = (200, 400, 600, 800)
) -> Board:
    """A grid over two settings of mimmu, both numbers, and one over words of salun; their plain settings too."""
    tasks = [task(world, forgotten, [forgotten]) for forgotten in world.concepts[1:12:4]]
    settings = [{"lr": lr, "t_max": t} for lr in rates for t in tried]
    grid: list[tuple[str, dict[str, Any]]] = [
        *((name, {}) for name in (*CONTROLS, "mimmu", "salun")),
        *(("mimmu", one) for one in settings if one != USUAL["mimmu"]),
        *(("salun", {"trains": which}) for which in ("cross-attention", "attention")),
    ]
    results = []
    for seed in SEEDS:
        for one in tasks:
            for method, values in grid:
                texts = {field: str(value) for field, value in values.items()}  # as the command line has them
                name = " ".join([method, *(f"{field}={value}" for field, value in texts.items())])
                config = USUAL.get(method, {}) | values
                results.append(cell(one, name, seed, config=config, variant=texts, base_method=method))
    return tasks, results


def mixed(world: World) -> Board:
    """A little of each, which no run has."""
    few = (*CONTROLS, "mimmu", "salun")
    parts = [
        sets(world, few, (1, 2)),
        chain(world, few, 3),
        recovery(world, few, 3),
        sweep(world, (1e-5, 1e-4), (300, 600)),
    ]
    return [one for tasks, _ in parts for one in tasks], [one for _, results in parts for one in results]


KINDS = {"sets": sets, "chain": chain, "recovery": recovery, "sweep": sweep, "mixed": mixed}


def write(world: World, kind: str, out: Path, metrics: Sequence[str] = NAMES) -> Path:
    """The page of one of `KINDS`; the store has no pictures of it."""
    tasks, results = KINDS[kind](world)
    of = {r.method: r.base_method for r in results}
    methods = {name: METHODS.get(known) for name, known in of.items()}
    run = RunConfig(methods=EVERY, world=world.name, metrics=tuple(metrics), seeds=SEEDS, out=out)
    named = {one.name: one for one in tasks}
    cells = [Cell(r.method, methods[r.method].Config(), named[r.task], r.seed) for r in results]
    out.mkdir(exist_ok=True)
    weights = out / "oracle"
    weights.touch()
    having = variant(world, oracle_concepts=world.concepts, oracle=lambda concept: weights)
    plan = dataclasses.replace(resolve(run), world=having, tasks=tuple(tasks), methods=methods, cells=tuple(cells))
    executor = Executor(plan)
    tables = board_tables.write(results, metrics, out, kind, "full", executor.context.description)
    file = out / f"{kind}.html"
    file.write_text(document.render(executor, results, tables))
    return file
