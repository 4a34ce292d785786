"""The suites `multi`, which forgets several concepts at once, and `sequential`, which forgets one after another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

from bench.core.task import Task
from bench.suites.base import Suite
from bench.suites.finegrained import FINEGRAINED, single_tasks
from bench.suites.neighbours import nearest_neighbour
from bench.suites.request import Request, emptied_domains, require_kept
from bench.worlds.base import World

# These numbers decide the tasks. The fingerprint of a board contains its tasks by value, so boards that were made with
# other numbers have another fingerprint.
SEVERAL = (2, 4, 8)  # concepts that one model forgets at once, where the user gives no --k
REQUESTS = 5  # length of a sequence, where the user gives no --forget

BANDS = ("near", "middle", "far")  # of targets, in the order in which they are forgotten


def targets_by_domain(world: World) -> list[tuple[str, ...]]:
    """All concepts of each domain, in the order in which they are forgotten; without domains of one concept.

    The fine-grained targets come first, from "near" to "far". The other concepts follow by how close their nearest
    neighbours are. Last come concepts that are the nearest neighbour of an earlier one, so that no pair of twins is
    forgotten from both sides, and concepts that presets were tuned on.
    """
    tasks = sorted(FINEGRAINED.tasks(world), key=lambda t: BANDS.index(t.band) if t.band in BANDS else len(BANDS))
    ordered = []
    for members in (members for members in world.domains.values() if len(members) > 1):  # one concept must be kept
        targets = [task.forget[0] for task in tasks if task.forget[0] in members]
        neighbours = {c: nearest_neighbour(world, c) for c in members}
        others = {c: neighbours[c] for c in members if c not in targets}
        while others:
            postponed = {neighbours[c][0] for c in targets} | set(world.tuning_concepts)
            following = min(others, key=lambda c: (c in postponed, -others[c][1], c))
            targets.append(following)
            del others[following]
        ordered.append(tuple(targets))
    return ordered


def alternate(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first of each group, then the second of each, and so on."""
    return tuple(c for row in zip_longest(*groups) for c in row if c is not None)


def split_targets(targets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split targets by domain into those to forget across domains, and those of a domain that these leave alone.

    The first part alternates between two domains if the world has three or more, and has one domain otherwise. The
    second part is the last domain. It is empty for a world of one domain, where nothing out of domain can be measured.
    """
    domains = targets[:2] if len(targets) > 2 else targets[:1]
    return alternate(domains), tuple(targets[-1]) if len(targets) > 1 else ()


def max_at_once(world: World, targets: Sequence[str]) -> int:
    """How many of the first `targets` one model may forget and still keep a concept of each domain."""
    return max(k for k in range(len(targets) + 1) if not emptied_domains(world, targets[:k]))


def joint_task(world: World, name: str, forget: Sequence[str], singles: Sequence[Task], band: str = "") -> Task:
    """The task of forgetting all of `forget`: it keeps what their tasks alone keep, without the forgotten concepts.

    Args:
        singles: tasks of one concept each, among them one for every concept of `forget`.

    Raises ValueError if nothing of a domain would be kept.
    """
    require_kept(world, forget)
    alone = {task.forget[0]: task for task in singles}
    in_domain = dict.fromkeys(chain.from_iterable(alone[c].in_domain for c in forget))
    out_of_domain = dict.fromkeys(chain.from_iterable(alone[c].out_of_domain for c in forget))
    return Task(
        name=name,
        forget=tuple(forget),
        in_domain=tuple(c for c in in_domain if c not in forget),
        out_of_domain=tuple(c for c in out_of_domain if c not in in_domain and c not in forget),
        band=band,
    )


def multi_tasks(world: World, request: Request) -> tuple[Task, ...]:
    """One task for the requested concepts, or tasks for each number of concepts at once.

    "K across" forgets the first K concepts of two domains in alternation. "K within" forgets K concepts of one other
    domain; there is one for the smallest K only. Raises ValueError if the world has too few concepts.
    """
    if request.forget:
        singles = single_tasks(world, request.forget)
        return (joint_task(world, " + ".join(request.forget), request.forget, singles, f"k={len(request.forget)}"),)
    targets = targets_by_domain(world)
    singles = single_tasks(world, alternate(targets))
    across, within = split_targets(targets)
    counts, most = sorted(request.counts or SEVERAL), max_at_once(world, across)
    tasks = []
    for k in counts:
        if k > most:
            raise ValueError(
                f"{k} concepts can't be forgotten at once in the world {world.name!r}: each domain that they come from "
                f"must keep one, so --k can be at most {most}; to forget other concepts, name them with --forget"
            )
        if k == counts[0] and 1 < k < len(within):
            tasks.append(joint_task(world, f"{k} within", within[:k], singles, f"k={k}"))
        tasks.append(joint_task(world, f"{k} across", across[:k], singles, f"k={k}"))
    return tuple(tasks)


def sequential_tasks(world: World, request: Request) -> tuple[Task, ...]:
    """A task for each concept of a sequence; each starts from the weights that the task before it left.

    The suite's own sequence has the first `REQUESTS` concepts of two domains in alternation. Raises ValueError for a
    sequence of one concept.
    """
    if request.forget:
        forget, singles = request.forget, single_tasks(world, request.forget)
    else:
        targets = targets_by_domain(world)
        forget, singles = split_targets(targets)[0][:REQUESTS], single_tasks(world, alternate(targets))
    if len(forget) < 2:
        raise ValueError(f"a sequence needs at least two concepts to forget, one after another, not {len(forget)}")
    tasks: list[Task] = []
    for i, concept in enumerate(forget, start=1):
        joint = joint_task(world, f"{i} {concept}", forget[:i], singles)
        before = tasks[-1] if tasks else None
        tasks.append(Task(joint.name, joint.forget, joint.in_domain, joint.out_of_domain, after=before))
    return tuple(tasks)


MULTI = Suite(
    "multi",
    "2, 4 and 8 concepts at once, or as --k or --forget says; all other concepts are kept",
    lambda world: multi_tasks(world, Request()),
    multi_tasks,
    takes_counts=True,
    one_model=True,
)

SEQUENTIAL = Suite(
    "sequential",
    "five concepts one after another, or those of --forget; each training starts from the weights of the one before it",
    lambda world: sequential_tasks(world, Request()),
    sequential_tasks,
    one_model=True,
)
