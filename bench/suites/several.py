"""Requests for more than one concept, one after another, or not to be forgotten for good: rules that make tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from bench.core.registry import nearest
from bench.core.task import Finetune, Task
from bench.worlds.base import World

HARMLESS = tuple(Finetune(data, how) for data in ("retained", "unrelated") for how in ("full", "lora"))  # type: ignore[arg-type]
RELEARNING = tuple(Finetune("concept", "full", pictures) for pictures in (5, 10, 20))
SEVERAL = (2, 4, 8)  # how many concepts at once, where nobody says
REQUESTS = 5  # one after another


@dataclass(frozen=True)
class Asked:
    """What a user asks to be forgotten in place of a suite's own choice.

    Args:
        forget: these concepts, in this order; () for the suite's choice.
        several: so many at once; () for `SEVERAL`.
    """

    forget: tuple[str, ...] = ()
    several: tuple[int, ...] = ()

    def require(self, world: World, together: bool) -> None:
        """Raise ValueError for a concept that `world` lacks or that is named twice, and for numbers beyond it.

        And, where all leave one model `together`, if nothing of a domain would stay.
        """
        known = (*world.concepts, *world.styles[1:])
        for concept in self.forget:
            if concept not in known:
                raise ValueError(f"the world {world.name!r} has no concept {concept!r}: {nearest(concept, known)}")
            if self.forget.count(concept) > 1:
                raise ValueError(f"{concept!r} is asked to be forgotten twice; a request names each concept once")
        if self.forget and self.several:
            raise ValueError("--forget says what is forgotten at once, and so how many: leave out --k")
        for k in self.several:
            if k < 1 or self.several.count(k) > 1:
                raise ValueError(f"--k takes different numbers from 1 on, not {' '.join(map(str, self.several))}")
            if k >= len(world.concepts):
                said = f"the world {world.name!r} has {len(world.concepts)} concepts, and some must stay"
                raise ValueError(f"{k} concepts can't be forgotten at once: {said}")
        if together:
            require_kept(world, self.forget)


def require_kept(world: World, forget: Sequence[str]) -> None:
    """Raise ValueError where `forget` leaves nothing of a domain, or of all styles but the plain one."""
    for domain, members in emptied(world, forget).items():
        raise ValueError(
            f"nothing would be left of {domain!r}: all its {len(members)} concepts are to be forgotten, and what "
            f"a method keeps of a domain could not be measured; leave out one of {', '.join(members)}"
        )


def emptied(world: World, forget: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The domains of which `forget` leaves nothing, and their concepts; "style" is all styles but the plain one."""
    groups = {**world.domains, "style": world.styles[1:]}
    return {name: tuple(members) for name, members in groups.items() if members and set(members) <= set(forget)}


def several(world: World, name: str, forget: Sequence[str], singles: Sequence[Task], band: str = "") -> Task:
    """The task of forgetting all of `forget` at once: what must stay is what each alone would keep, without the others.

    Args:
        singles: tasks of a single concept each, one for every concept of `forget`.
    """
    require_kept(world, forget)
    own = {task.forget[0]: task for task in singles}
    near = dict.fromkeys(chain.from_iterable(own[c].in_domain for c in forget))
    far = dict.fromkeys(chain.from_iterable(own[c].out_of_domain for c in forget))
    kept = tuple(c for c in near if c not in forget)
    return Task(name, tuple(forget), kept, tuple(c for c in far if c not in near and c not in forget), band)


def in_turn(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first of each group, then the second of each, and so on."""
    return tuple(c for row in zip_longest(*groups) for c in row if c is not None)


def touched(targets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """From targets by domain: those of two domains in turn, and those of the last, which the first two leave alone.

    Of two domains one is left alone, of a single one none: then nothing out of the domain can be measured.
    """
    first = targets[:2] if len(targets) > 2 else targets[:1]
    return in_turn(first), tuple(targets[-1]) if len(targets) > 1 else ()


def _most(world: World, targets: Sequence[str]) -> int:
    """How many of `targets`, the first ones, may be forgotten at once, so that something of each domain stays."""
    return max(k for k in range(len(targets) + 1) if not emptied(world, targets[:k]))


def multi(world: World, asked: Asked, targets: Sequence[Sequence[str]], single: Sequence[Task]) -> tuple[Task, ...]:
    """K concepts at once: of two domains by turns, the first K of one list; for the smallest K also within a third.

    Raises ValueError if there are too few.
    """
    if asked.forget:
        return (several(world, " + ".join(asked.forget), asked.forget, single, f"k={len(asked.forget)}"),)
    across, within = touched(targets)
    numbers, most = sorted(asked.several or SEVERAL), _most(world, across)
    tasks = []
    for k in numbers:
        if k > most:
            raise ValueError(
                f"{k} concepts can't be forgotten at once in the world {world.name!r}: each domain that they are taken "
                f"from must keep one, so --k can be at most {most}; to forget others, name them with --forget"
            )
        if k == numbers[0] and 1 < k < len(within):
            tasks.append(several(world, f"{k} within", within[:k], single, f"k={k}"))
        tasks.append(several(world, f"{k} across", across[:k], single, f"k={k}"))
    return tuple(tasks)


def sequential(
    world: World, asked: Asked, targets: Sequence[Sequence[str]], single: Sequence[Task]
) -> tuple[Task, ...]:
    """Requests one after another, each from the weights that the last one left: of two domains by turns."""
    forget = asked.forget or touched(targets)[0][:REQUESTS]
    if len(forget) < 2:
        raise ValueError("a sequence takes at least two concepts to forget, one after another")
    tasks: list[Task] = []
    for i, concept in enumerate(forget, start=1):
        whole = several(world, f"{i} {concept}", forget[:i], single)
        after = tasks[-1] if tasks else None
        tasks.append(Task(whole.name, whole.forget, whole.in_domain, whole.out_of_domain, after=after))
    return tuple(tasks)


def resurgence(
    world: World, asked: Asked, single: Sequence[Task], nearest_of: dict[str, str], probes: Sequence[Finetune]
) -> tuple[Task, ...]:
    """Each concept forgotten alone, then the model trained further in each way of `probes`.

    Measured are the concept and its nearest neighbour, and the neighbours of the other ones, which stay. A concept that
    is alone in its domain has no neighbour.
    """
    tasks = []
    for probe in probes:  # those of one concept apart, so that workers need not wait for each other's unlearning
        for task in single:
            concept = task.forget[0]
            others = dict.fromkeys(n for c, n in nearest_of.items() if c != concept)
            far = tuple(n for n in others if n in task.out_of_domain)
            name = f"{concept}: {probe.name}"
            near = (nearest_of[concept],) if concept in nearest_of else ()
            tasks.append(Task(name, task.forget, near, far, probe.name, task, probe))
    return tuple(tasks)
