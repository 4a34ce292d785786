"""A run in pieces that workers far from each other do: what cells share first, then the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core import digest
from bench.core.task import Task
from bench.plan.plan import Plan
from methods import CONTROLS, REFERENCES


@dataclass(frozen=True)
class WorkItem:
    """A piece of a run that one worker does alone.

    Args:
        name: for people.
        cell: index of a cell; None: something that cells share.
        concept: whose pictures methods learn from are drawn.
        start: index of a cell that starts from weights of no cell of the run: these. If this and `concept` are not
            given either, all images of the untouched model.
        after: places of the units that should be done first: what the cell would otherwise wait for or compute itself.
    """

    name: str
    cell: int | None = None
    concept: str = ""
    start: int | None = None
    after: tuple[int, ...] = ()


def work_items(plan: Plan) -> tuple[WorkItem, ...]:
    """The pieces of `plan`, each behind those that it comes after: first what cells share.

    Shared are the pictures of each concept to forget, the untouched model's images, and unlearned models that several
    cells train further. Of a control the first cell comes before its others, which find its images.
    """
    learns = [plan.base_method(cell.method) not in REFERENCES for cell in plan.cells]
    asked = dict.fromkeys(
        c for cell, own in zip(plan.cells, learns, strict=True) if own for t in cell.task.chain for c in t.request
    )
    made = [WorkItem(f"pictures of {concept}", concept=concept) for concept in asked]
    sets = {concept: place for place, concept in enumerate(asked)}
    untouched = len(made)
    made.append(WorkItem("images of the untouched model"))
    before, places, firsts = predecessors(plan), dict[int, int](), dict[str, int]()
    starts: dict[tuple[str, Task, int], int] = {}
    for index, cell in enumerate(plan.cells):
        task = cell.task.after
        if learns[index] and task and index not in before and (cell.method, task, cell.seed) not in starts:
            starts[cell.method, task, cell.seed] = len(made)
            sources = tuple(sets[c] for one in task.chain for c in one.request)
            made.append(WorkItem(f"{cell.method} · {task.name} · seed {cell.seed}", start=index, after=sources))
    for index, cell in enumerate(plan.cells):
        after = [sets[c] for task in cell.task.chain for c in task.request] if learns[index] else []
        after += [untouched, *([places[before[index]]] if index in before else [])]
        start = (cell.method, cell.task.after, cell.seed)
        after += [starts[start]] if start in starts else []  # type: ignore[index]
        places[index] = len(made)
        if cell.method in CONTROLS and cell.task.finetune is None:
            after += [firsts[cell.method]] if cell.method in firsts else []
            firsts.setdefault(cell.method, places[index])
        made.append(WorkItem(cell.name, index, after=tuple(after)))
    return tuple(made)


def signature(pieces: Sequence[WorkItem], results: str) -> str:
    """Digest of the pieces and of what their `results` depend on, `bench.cells.outcomes.Outcomes.signature`.

    Another where a place no longer means the same cell, as with another method among "all", or means it differently.
    """
    return digest.of_json([pieces, results])


def waves(pieces: Sequence[WorkItem]) -> list[list[int]]:
    """Places of units by how many must be done before them one after another: those of a wave need no other of it."""
    depth: list[int] = []
    for unit in pieces:
        depth.append(1 + max((depth[place] for place in unit.after), default=-1))
    return [[i for i, d in enumerate(depth) if d == level] for level in range(max(depth, default=-1) + 1)]


def side_by_side(plan: Plan) -> int:
    """How many cells that train can run at the same time, given enough workers.

    A cell waits for the cell that it starts from, and runs beside those that wait for equally many. Cells that train
    nothing are not counted: they only draw images, some of which they share.
    """
    before, depth = predecessors(plan), dict[int, int]()
    for index in range(len(plan.cells)):
        depth[index] = depth[before[index]] + 1 if index in before else 0
    trains = [plan.base_method(cell.method) not in REFERENCES or cell.task.finetune is not None for cell in plan.cells]
    return max(Counter(depth[index] for index, one in enumerate(trains) if one).values(), default=0)


def predecessors(plan: Plan) -> dict[int, int]:
    """Index of a cell -> index of the cell whose weights it starts from, where that is in the plan too."""
    places = {(cell.method, cell.task, cell.seed): index for index, cell in enumerate(plan.cells)}
    found = {i: places.get((c.method, c.task.after, c.seed)) for i, c in enumerate(plan.cells) if c.task.after}
    return {index: before for index, before in found.items() if before is not None}
