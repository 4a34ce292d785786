"""Results made by hand of what a board of one concept at a time lacks: sets, sequences, recoveries, sweeps.

Figures follow from a formula, so that a test can say what a chart has to show.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import leaderboard
from bench.config import RunConfig
from bench.executor import Executor
from bench.plan import Cell, resolve
from bench.report import page
from bench.task import Task
from bench.worlds import World
from methods import METHODS
from metrics import COSTS

METRICS = ("ua", "nra", "twin", "ora", "drift")
NAMES = ("pretrained", "wrecked", "mimmu", "mimmu-retain", "salun", "esd-x", "esd-u", "sdd")
SEEDS = (0, 1)
N = 8  # images of a concept


def task(world: World, name: str, forget: Sequence[str], band: str = "") -> Task:
    """Forget some concepts of a world and keep all others."""
    near = {c for concept in forget for c in world.domains[world.domain_of(concept)]} - {*forget}
    return Task(name, tuple(forget), tuple(c for c in world.concepts if c in near),
                tuple(c for c in world.concepts if c not in near and c not in forget), band)  # fmt: skip


def wave(*what: object) -> float:
    """A number from 0 to 1 that follows from `what`."""
    return (math.sin(sum(ord(letter) * (i + 1) for i, letter in enumerate(repr(what)))) + 1) / 2


def result(
    given: Task, method: str, seed: int, gone: Mapping[str, float] | None = None, **about: Any
) -> dict[str, Any]:
    """A finished cell, in which 1 - accuracy of the forgotten concepts is what `gone` says, or that of the method."""
    worth = {"pretrained": 0.0, "wrecked": 1.0, "oracle": 1.0}.get(method, 0.8 + 0.2 * wave(method, given.name, seed))
    gone = gone or dict.fromkeys(given.forget, worth)
    lost = {"pretrained": 0.0, "wrecked": 0.95}.get(method, 0.25 * wave(method, given.name) + 0.03 * len(given.forget))
    roles = {"forget": given.forget, "in_domain": given.in_domain, "out_of_domain": given.out_of_domain}
    concepts = [
        {"concept": c, "role": role, "judge": 1.0, "judge_n": N, "judged_by": "species", "distances": {"text": wave(c)},
         "accuracy": 1 - gone[c] if role == "forget" else 1 - lost * wave(c), "n": N, "drift": 0.1 * wave(c)}
        for role, of in roles.items() for c in of
    ]  # fmt: skip
    values = {"ua": sum(gone.values()) / len(gone), "nra": 1 - lost, "twin": 1 - lost * wave(given.name),
              "ora": 1 - lost / 3, "drift": lost / 5}  # fmt: skip
    cost = {section: {c.name: 100 for c in COSTS if c.section == section} for section in ("cost", "data")}
    if method in ("pretrained", "wrecked"):
        cost["cost"]["seconds"] = 0
    told = {"forget": list(given.forget), "way": "joint", "step": None, "probe": None, "variant": {},
            "variant_of": method}  # fmt: skip
    return {
        "method": method, "fidelity": METHODS.get(plain(about.get("variant_of", method))).fidelity, "task": given.name, "band": given.band, "seed": seed,
        "config": {}, "fingerprint": "f", "status": "ok", "concepts": concepts, "curve": None, "extractor": "x",
        "scores": {name: {"value": value, "n": N} for name, value in values.items()}, "compensation": "none",
        **cost, **told, **about,
    }  # fmt: skip


def sets(world: World, names: Sequence[str] = NAMES) -> tuple[list[Task], list[dict[str, Any]]]:
    """Two requests each of 1, 2 and 4 concepts at once."""
    ways = {"esd-x": "alternate", "sdd": "closed_form"}
    tasks = [
        task(world, f"{k} at once {i}", world.concepts[i * k : (i + 1) * k], f"{k} at once")
        for k in (1, 2, 4)
        for i in range(2)
    ]
    return tasks, [
        result(t, m, s, way=ways.get(m, "joint")) for s in SEEDS for t in tasks for m in names
    ]  # fmt: skip


def chain(world: World, names: Sequence[str] = NAMES) -> tuple[list[Task], list[dict[str, Any]]]:
    """Five requests one after another; what is gone comes back by 7 points a request."""
    asked, tasks, results = world.concepts[2:12:2], [], []
    for number in range(1, len(asked) + 1):
        tasks.append(task(world, f"{number} {asked[number - 1]}", asked[:number]))
    for seed in SEEDS:
        for number, one in enumerate(tasks, 1):
            step = {"chain": "first", "number": number, "of": len(asked), "request": [asked[number - 1]]}
            for name in names:
                full = {"pretrained": 0.0, "wrecked": 1.0}.get(name, 1.0 - 0.2 * wave(name) - 0.05 * seed)
                fade = 0.0 if name in names[:2] else 0.07 + 0.2 * wave(name, "x")
                gone = {c: max(full - fade * (number - i), 0.0) for i, c in enumerate(asked[:number], 1)}
                results.append(result(one, name, seed, gone, step=step))
    return tasks, results


def recovery(world: World, names: Sequence[str] = NAMES) -> tuple[list[Task], list[dict[str, Any]]]:
    """Two concepts forgotten, each model then trained further in seven ways; an oracle for what relearns alone."""
    ways = [
        *((f"{data}, {how}", data, 0, how) for data in ("retained", "unrelated") for how in ("full", "lora")),
        *((f"{pictures} pictures, lora", "concept", pictures, "lora") for pictures in (5, 10, 20)),
    ]
    tasks, results = [], []
    for concept in world.concepts[:8:4]:
        tasks.append(task(world, concept, [concept]))
        results += [result(tasks[-1], name, seed) for seed in SEEDS for name in names]
        for band, data, pictures, how in ways:
            tasks.append(task(world, f"{concept}: {band}", [concept], band))
            probe = {"of": concept, "data": data, "pictures": pictures, "how": how, "steps": 200}
            for seed in SEEDS:
                for name in (*names, *(["oracle"] if data == "concept" else [])):
                    worth = {"pretrained": 0.02, "wrecked": 1.0, "oracle": 1.0}.get(
                        name, 0.85 + 0.15 * wave(name, concept, seed)
                    )
                    speed = 0.3 if name in names[:2] else 0.6 * wave(name, band) + pictures / 20
                    ua = [worth * math.exp(-speed * i) for i in range(6)] if name != "wrecked" else [1.0] * 6
                    points = [
                        {"part": i / 5, "scores": {m: {"value": u if m == "ua" else 0.9, "n": N} for m in METRICS}}
                        for i, u in enumerate(ua)
                    ]
                    gone = {concept: ua[-1]}
                    results.append(result(tasks[-1], name, seed, gone, probe=probe, curve=points))
    return tasks, results


def sweep(world: World) -> tuple[list[Task], list[dict[str, Any]]]:
    """A grid over two settings of mimmu, both numbers, and one over words of salun; their plain settings too."""
    tasks = [task(world, concept, [concept]) for concept in world.concepts[:12:4]]
    usual: dict[str, dict[str, Any]] = {"mimmu": {"lr": 1e-5, "t_max": 600}, "salun": {"trains": "full"}}
    settings = [{"lr": lr, "t_max": t} for lr in (1e-6, 1e-5, 1e-4) for t in (200, 400, 600, 800)]
    grid: list[tuple[str, dict[str, Any]]] = [
        *((name, {}) for name in (*NAMES[:2], "mimmu", "salun")),
        *(("mimmu", one) for one in settings if one != usual["mimmu"]),
        *(("salun", {"trains": which}) for which in ("cross-attention", "attention")),
    ]
    results = []
    for seed in SEEDS:
        for one in tasks:
            for method, values in grid:
                text = {field: str(value) for field, value in values.items()}  # as the command line has it
                name = " ".join([method, *(f"{field}={value}" for field, value in text.items())])
                config = usual.get(method, {}) | values
                results.append(result(one, name, seed, config=config, variant=text, variant_of=method))
    return tasks, results


KINDS = {"sets": sets, "chain": chain, "recovery": recovery, "sweep": sweep}


def write(world: World, kind: str, out: Path) -> Path:
    """The page of one of `KINDS`, without pictures."""
    tasks, results = KINDS[kind](world)
    of = {r["method"]: plain(r["variant_of"]) for r in results}
    run = RunConfig(methods=tuple(dict.fromkeys(of.values())), world="tiny", metrics=METRICS, seeds=SEEDS, out=out)
    methods, named = {name: METHODS.get(known) for name, known in of.items()}, {one.name: one for one in tasks}
    cells = [Cell(r["method"], methods[r["method"]].Config(), named[r["task"]], r["seed"]) for r in results]
    plan = dataclasses.replace(resolve(run), tasks=tuple(tasks), methods=methods, cells=tuple(cells))
    executor = Executor(plan)
    tables = leaderboard.write(results, METRICS, out, kind, "full", executor.description)
    file = out / f"{kind}.html"
    file.write_text(page.render(executor, results, tables))
    return file
