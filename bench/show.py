"""Tables for someone who looks before running: what there is, and what a run would do."""

from __future__ import annotations

from rich import box
from rich.table import Table

from bench.executor import Executor
from bench.plan import Plan
from bench.suites import SUITES, Suite
from bench.worlds import WORLDS, World
from methods import METHODS
from metrics import COSTS, METRICS

Rows = list[tuple[str, ...]]  # the first has the columns' names


def listing(what: str, world: World) -> Table:
    """What there is of "methods", "metrics", "suites" (their tasks counted in `world`) or "worlds"."""
    columns, *rows = {"methods": _methods, "metrics": _metrics, "worlds": _worlds}.get(what, lambda: _suites(world))()
    table = Table(title=what, box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, justify="right" if rows and rows[0][i].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _methods() -> Rows:
    found = {name: METHODS.get(name) for name in METHODS.names()}
    return [("name", "about", "source", "fidelity"), *((n, m.about, m.source, m.fidelity) for n, m in found.items())]


def _metrics() -> Rows:
    found = {name: METRICS.get(name) for name in METRICS.names()}
    rows = [(name, m.about, m.source, f"{m.unit} {m.arrow}".strip()) for name, m in found.items()]
    counted = [(cost.name, cost.about, "counted by the harness; on every board", f"{cost.unit} ↓") for cost in COSTS]
    return [("name", "about", "source", "unit, better"), *rows, *counted]


def _suites(world: World) -> Rows:
    found = {name: SUITES.get(name) for name in SUITES.names()}
    rows = [(name, suite.about, suite.source, _count(suite, world)) for name, suite in found.items()]
    return [("name", "about", "source", f"tasks in {world.name}"), *rows]


def _count(suite: Suite, world: World) -> str:
    try:
        return str(len(suite.tasks(world)))
    except ValueError:  # nothing in this world that the suite could forget
        return "none"


def _worlds() -> Rows:
    found = {name: WORLDS.get(name) for name in WORLDS.names()}
    rows = [
        (name, world.about, *(str(len(part)) for part in (world.domains, world.concepts, world.styles)))
        for name, world in found.items()
    ]
    return [("name", "about", "domains", "concepts", "styles"), *rows]


def planned(plan: Plan) -> Table:
    """The cells of a run, and which of their stages the store has."""
    executor = Executor(plan)
    table = Table(title=f"{len(plan.cells)} cells; backbone {plan.folder}")
    for name in ("cell", "unlearning", "images", "result", "seconds to unlearn"):
        table.add_column(name)
    for cell in plan.cells:
        weights = executor.stages.store.get("deltas", executor.stages.delta_key(cell))
        images = weights and executor.stages.store.get("images", executor.stages.images_key(weights))
        done = executor.stored(cell)["status"] == "ok"
        words = ["stored" if there else "to do" for there in (weights, images, done)]
        table.add_row(cell.name, *words, f"{weights.facts['cost']['seconds']:.1f}" if weights else "?")
    return table
