"""Suites turn a world into tasks: what to forget, and what must stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.registry import Registry
from bench.worlds.base import World


@dataclass(frozen=True)
class Task:
    """One request to forget.

    Args:
        name: unique within its suite.
        forget: concepts that must go.
        in_domain: concepts of the same domain, which must stay: the near neighbours.
        out_of_domain: concepts of other domains, which must stay.
        band: how close the nearest neighbour of the forgotten concept is: "far", "middle", "near" or "".
    """

    name: str
    forget: tuple[str, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    band: str = ""

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that the task evaluates."""
        return self.forget + self.in_domain + self.out_of_domain


@dataclass(frozen=True)
class Suite:
    """A rule that turns a world into tasks.

    Args:
        about: one line for `--list suites`.
        tasks: world -> tasks.
        protocol: protocol values that this suite scales down.
        training: config values, of any method that trains, that this suite scales down.
    """

    about: str
    tasks: Callable[[World], tuple[Task, ...]]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    source: str = "Lethe"  # where the rule comes from


def nearest_neighbour(world: World, concept: str, among: Sequence[str] = ()) -> tuple[str, float]:
    """The concept closest to `concept`, of the same domain or of `among` if given, and how close it is."""
    siblings = [c for c in among or world.domains[world.domain_of(concept)] if c != concept]
    return max(((c, world.closeness(concept, c)) for c in siblings), key=lambda pair: pair[1])


def banded_targets(world: World, domain: str) -> dict[str, str]:
    """Three targets of a domain, band -> concept, by closeness to the nearest neighbour.

    "far" has the least close nearest neighbour, "near" the closest, "middle" the one nearest to half way between;
    the neighbours of the first two are no targets if there are others, so that a twin is not forgotten from both
    sides. Raises ValueError for a domain of fewer than three concepts.
    """
    concepts = world.domains[domain]
    if len(concepts) < 3:
        raise ValueError(f"domain {domain!r} of world {world.name!r} has fewer than three concepts")
    neighbours = {concept: nearest_neighbour(world, concept) for concept in concepts}
    close = {concept: near for concept, (_, near) in neighbours.items()}
    ranked = sorted(concepts, key=lambda c: (close[c], c))
    far, near = ranked[0], ranked[-1]
    half_way = (close[far] + close[near]) / 2
    others = [c for c in ranked[1:-1] if c not in (neighbours[far][0], neighbours[near][0])] or ranked[1:-1]
    middle = min(others, key=lambda c: (abs(close[c] - half_way), c))
    return {"far": far, "middle": middle, "near": near}


def forget_one(world: World, concept: str, band: str = "") -> Task:
    """The task of forgetting one concept and keeping every other of the world."""
    domain = world.domain_of(concept)
    return Task(
        name=concept,
        forget=(concept,),
        in_domain=tuple(c for c in world.domains[domain] if c != concept),
        out_of_domain=tuple(c for c in world.concepts if world.domain_of(c) != domain),
        band=band,
    )


def finegrained(world: World) -> tuple[Task, ...]:
    """Three targets a domain, one in each band of closeness; everything else must stay."""
    return tuple(
        forget_one(world, concept, band)
        for domain in world.domains
        for band, concept in banded_targets(world, domain).items()
    )


def smoke(world: World) -> tuple[Task, ...]:
    """One target with two concepts in its domain and two outside: every room is entered, nothing is learnt."""
    task = forget_one(world, world.concepts[0])
    return (Task(task.name, task.forget, task.in_domain[:2], task.out_of_domain[:2]),)


SUITES: Registry[Suite] = Registry("suite")
SUITES.add(
    "finegrained",
    Suite("three targets a domain, from a lonely one to a near twin; kept: all other concepts", finegrained),
)
SUITES.add(
    "smoke",
    Suite(
        "one target, five concepts, two epochs: seconds, for tests and plug-in authors; its figures mean nothing",
        smoke,
        protocol={
            "images_per_concept": 3,
            "forget_images": 8,
            "retain_images": 2,
            "reference_per_concept": 4,
            "num_inference_steps": 8,
        },
        training={"epochs": 2, "steps": None, "batch_size": 4},
    ),
)
