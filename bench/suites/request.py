"""What a user requests in place of a suite's own choice: `--forget` and `--k`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.registry import nearest
from bench.worlds.base import World


@dataclass(frozen=True)
class Request:
    """The concepts, or the numbers of concepts, that a user asks a suite to forget.

    A request is false where it names neither; then the suite chooses.

    Args:
        forget: the concepts to forget, in this order; () for the suite's own choice.
        counts: how many concepts to forget at once, one task or two for each number; () for the suite's own numbers.
    """

    forget: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.forget or self.counts)

    def check(self, world: World, one_model: bool) -> None:
        """Check the request against the concepts of `world`.

        Args:
            one_model: whether one model forgets all requested concepts. Then it must keep some of each domain.

        Raises ValueError for a concept that the world lacks, for one that is named twice, for a number that is not
        between 1 and the number of concepts, and for a domain of which nothing would be kept.
        """
        known = (*world.concepts, *world.styles[1:])
        for concept in self.forget:
            if concept not in known:
                raise ValueError(f"the world {world.name!r} has no concept {concept!r}: {nearest(concept, known)}")
            if self.forget.count(concept) > 1:
                raise ValueError(f"--forget names {concept!r} twice; name each concept once")
        if self.forget and self.counts:
            raise ValueError("--forget and --k were both given; --forget already says how many concepts: leave out --k")
        for count in self.counts:
            if count < 1 or self.counts.count(count) > 1:
                given = " ".join(map(str, self.counts))
                raise ValueError(f"--k takes numbers that are at least 1 and differ from each other, not {given}")
            if count >= len(world.concepts):
                raise ValueError(
                    f"--k {count} is too large: the world {world.name!r} has {len(world.concepts)} concepts, and a "
                    "model must keep some of them"
                )
        if one_model:
            require_kept(world, self.forget)


def require_kept(world: World, forget: Sequence[str]) -> None:
    """Raise ValueError if `forget` holds every concept of a domain, or every style but the plain one."""
    for domain, members in emptied_domains(world, forget).items():
        raise ValueError(
            f"all {len(members)} concepts of {domain!r} would be forgotten, so what a method keeps of {domain!r} could "
            f"not be measured; leave out one of {', '.join(members)}"
        )


def emptied_domains(world: World, forget: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each domain whose concepts are all in `forget` -> its concepts; "style" -> all styles but the plain one."""
    groups = {**world.domains, "style": world.styles[1:]}
    return {name: tuple(members) for name, members in groups.items() if members and set(members) <= set(forget)}
