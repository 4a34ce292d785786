"""The suite `finegrained`: three targets in each domain, from one without a close neighbour to one with a near twin."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.task import Task
from bench.suites.base import Suite
from bench.suites.neighbours import nearest_neighbour
from bench.suites.request import Request
from bench.suites.styles import STYLE
from bench.worlds.base import World


def targets_by_band(world: World, domain: str) -> dict[str, str]:
    """Three targets of a domain, band -> concept, by closeness to their nearest neighbours.

    "far" has the least close nearest neighbour, "near" has the closest one. "middle" is nearest to half way between
    them; it is no nearest neighbour of "far" or "near" if there are other candidates, so that no pair of twins is
    forgotten from both sides. Concepts that presets were tuned on are never targets.

    Raises ValueError if the domain has fewer than three concepts that may be targets.
    """
    concepts = [concept for concept in world.domains[domain] if concept not in world.tuning_concepts]
    if len(concepts) < 3:
        raise ValueError(f"domain {domain!r} of world {world.name!r} has fewer than three concepts to forget")
    neighbours = {concept: nearest_neighbour(world, concept) for concept in concepts}
    closeness = {concept: close for concept, (_, close) in neighbours.items()}
    ranked = sorted(concepts, key=lambda c: (closeness[c], c))
    far, near = ranked[0], ranked[-1]
    half_way = (closeness[far] + closeness[near]) / 2
    others = [c for c in ranked[1:-1] if c not in (neighbours[far][0], neighbours[near][0])] or ranked[1:-1]
    middle = min(others, key=lambda c: (abs(closeness[c] - half_way), c))
    return {"far": far, "middle": middle, "near": near}


def forget_one(world: World, concept: str, band: str = "") -> Task:
    """The task of forgetting one concept and keeping every other concept of the world."""
    domain = world.domain_of(concept)
    return Task(
        name=concept,
        forget=(concept,),
        in_domain=tuple(c for c in world.domains[domain] if c != concept),
        out_of_domain=tuple(c for c in world.concepts if world.domain_of(c) != domain),
        band=band,
    )


def banded_tasks(world: World, domains: Sequence[str]) -> tuple[Task, ...]:
    """A task for each of the three targets of each of `domains`. Raises ValueError as `targets_by_band` does."""
    return tuple(
        forget_one(world, concept, band)
        for domain in domains
        for band, concept in targets_by_band(world, domain).items()
    )


def single_tasks(world: World, concepts: Sequence[str] = ()) -> tuple[Task, ...]:
    """A task for each of `concepts` alone, or for each fine-grained target of the world if `concepts` is empty.

    A concept that is a fine-grained target, or a style, has the task that its suite gives it.
    """
    if concepts and "finegrained" not in world.tasks:  # a requested concept's domain may have fewer than three targets
        large = [d for d, members in world.domains.items() if len({*members} - {*world.tuning_concepts}) >= 3]
        targets = banded_tasks(world, large)
    else:
        targets = FINEGRAINED.tasks(world)
    known = {task.forget[0]: task for task in targets}
    if any(c in world.styles for c in concepts):
        known |= {task.forget[0]: task for task in STYLE.tasks(world)}
    return tuple(known.get(c) or world.single_task(c) or forget_one(world, c) for c in concepts or known)


def near_twin_tasks(world: World) -> tuple[Task, ...]:
    """The fine-grained tasks in the band "near", one in each domain; all of them if the world has no bands."""
    tasks = single_tasks(world)
    return tuple(task for task in tasks if task.band == "near") or tasks


def requested_tasks(world: World, request: Request) -> tuple[Task, ...]:
    """A task for each requested concept alone."""
    return single_tasks(world, request.forget)


FINEGRAINED = Suite(
    "finegrained",
    "three targets in each domain, from one without a close neighbour to a near twin; all other concepts are kept",
    lambda world: banded_tasks(world, tuple(world.domains)),
    requested_tasks,
)
