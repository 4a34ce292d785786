"""The nearest neighbour of a concept: the one that the world's text encoder finds closest."""

from __future__ import annotations

from collections.abc import Sequence

from bench.worlds.base import World


def nearest_neighbour(world: World, concept: str, among: Sequence[str] = ()) -> tuple[str, float]:
    """The concept closest to `concept`, and how close it is, at most 1.

    Args:
        among: the candidates; () for the other concepts of the domain.

    Raises ValueError if there is no candidate besides `concept`.
    """
    siblings = [c for c in among or world.domains[world.domain_of(concept)] if c != concept]
    if not siblings:
        raise ValueError(f"{concept!r} is the only concept of its domain, so it has no nearest neighbour")
    return max(((c, world.closeness(concept, c)) for c in siblings), key=lambda pair: pair[1])
