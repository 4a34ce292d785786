"""Split a run into work items for workers on other machines: shared artifacts first, then the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core import digest
from bench.core.task import Task
from bench.plan.plan import Plan
from methods import CONTROLS


@dataclass(frozen=True)
class WorkItem:
    """A part of a run that one worker computes.

    An item is a cell, or an artifact that several cells share: the forget set of `concept`, the weights that the cell
    `start` starts from, or, if neither is given, all images of the pretrained model.

    Args:
        name: the name that users see.
        cell: index of the cell in the plan; None for a shared artifact.
        concept: the concept whose forget set is drawn; "" for other items.
        start: index of a cell whose starting weights no cell of the run trains; None for other items.
        after: indices of the work items to finish first. A worker that starts earlier waits, or computes them itself.
    """

    name: str
    cell: int | None = None
    concept: str = ""
    start: int | None = None
    after: tuple[int, ...] = ()


def work_items(plan: Plan) -> tuple[WorkItem, ...]:
    """The work items of `plan`; each comes later than the items that it waits for.

    Shared artifacts come first: the forget set of each concept, the images of the pretrained model, and unlearned
    models that several cells train further. The first cell of a control comes before its other cells, which use the
    images that it draws.
    """
    learns = [plan.learns(cell) for cell in plan.cells]
    concepts = dict.fromkeys(
        c for cell, trains in zip(plan.cells, learns, strict=True) if trains for t in cell.task.chain for c in t.request
    )
    items = [WorkItem(f"pictures of {concept}", concept=concept) for concept in concepts]
    forget_sets = {concept: index for index, concept in enumerate(concepts)}
    pretrained = len(items)
    items.append(WorkItem("images of the untouched model"))
    before, places, firsts = predecessors(plan), dict[int, int](), dict[str, int]()
    starts: dict[tuple[str, Task, int], int] = {}
    for index, cell in enumerate(plan.cells):
        task = cell.task.after
        if learns[index] and task and index not in before and (cell.method, task, cell.seed) not in starts:
            starts[cell.method, task, cell.seed] = len(items)
            sources = tuple(forget_sets[c] for one in task.chain for c in one.request)
            items.append(WorkItem(f"{cell.method} · {task.name} · seed {cell.seed}", start=index, after=sources))
    for index, cell in enumerate(plan.cells):
        after = [forget_sets[c] for task in cell.task.chain for c in task.request] if learns[index] else []
        after += [pretrained, *([places[before[index]]] if index in before else [])]
        start = (cell.method, cell.task.after, cell.seed)
        after += [starts[start]] if start in starts else []  # type: ignore[index]
        places[index] = len(items)
        if cell.method in CONTROLS and cell.task.finetune is None:
            after += [firsts[cell.method]] if cell.method in firsts else []
            firsts.setdefault(cell.method, places[index])
        items.append(WorkItem(cell.name, index, after=tuple(after)))
    return tuple(items)


def signature(items: Sequence[WorkItem], results: str) -> str:
    """Digest of the work items and of everything that their results depend on.

    A worker compares it with its own, so that an index means the same cell on both machines.

    Args:
        results: `bench.cells.outcomes.Outcomes.signature`.
    """
    return digest.of_json([items, results])


def waves(items: Sequence[WorkItem]) -> list[list[int]]:
    """Indices of the work items in groups: an item waits only for items of earlier groups."""
    depth: list[int] = []
    for item in items:
        depth.append(1 + max((depth[index] for index in item.after), default=-1))
    return [[i for i, d in enumerate(depth) if d == level] for level in range(max(depth, default=-1) + 1)]


def side_by_side(plan: Plan) -> int:
    """The largest number of cells that train at the same time, given enough workers.

    A cell waits for the cell whose weights it starts from. Cells that train nothing are not counted, since they only
    draw images, and share some of them.
    """
    before, depth = predecessors(plan), dict[int, int]()
    for index in range(len(plan.cells)):
        depth[index] = depth[before[index]] + 1 if index in before else 0
    trains = [plan.trains(cell) for cell in plan.cells]
    return max(Counter(depth[index] for index, one in enumerate(trains) if one).values(), default=0)


def predecessors(plan: Plan) -> dict[int, int]:
    """Index of a cell -> index of the cell whose weights it starts from, if that cell is in the plan."""
    places = {(cell.method, cell.task, cell.seed): index for index, cell in enumerate(plan.cells)}
    found = {i: places.get((c.method, c.task.after, c.seed)) for i, c in enumerate(plan.cells) if c.task.after}
    return {index: before for index, before in found.items() if before is not None}
