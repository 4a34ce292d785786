"""Suites turn a world into tasks: what to forget, and what must stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.core.registry import Registry
from bench.core.task import Task
from bench.suites import several
from bench.suites.several import Asked
from bench.worlds.base import SPLITS, World

NOTHING = Asked()


@dataclass(frozen=True)
class Suite:
    """A rule that turns a world into tasks.

    Args:
        about: one line for `ls suites`.
        tasks: world -> tasks.
        asked: (world, what the user asks to be forgotten) -> tasks, where the suite takes that.
        protocol: protocol values that this suite scales down.
        training: config values, of any method that trains, that this suite scales down.
        across: whether concepts are asked for in every style of the world, not in the plain one alone.
        curve: checkpoints along each training that this suite measures unless the run says how many; 0: none.
        curve_needed: why the suite has nothing to measure without a curve; "" for a suite that has.
        several: whether the user may say how many at once.
        together: whether what the user asks to be forgotten all leaves one model, so that some of each kind must stay.
        variants: method -> settings, by field, that the method is run with one after the other; {} for its usual ones.
    """

    about: str
    tasks: Callable[[World], tuple[Task, ...]]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    across: bool = False
    curve: int = 0
    curve_needed: str = ""
    variants: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    asked: Callable[[World, Asked], tuple[Task, ...]] | None = None
    several: bool = False
    together: bool = False
    source: str = "Lethe"  # where the rule comes from

    def __post_init__(self) -> None:
        if self.curve < 0 or self.curve == 1:
            raise ValueError(f"a suite's curve must have at least 2 checkpoints, or 0 for no curve, not {self.curve}")
        if self.curve_needed and not self.curve:
            raise ValueError("a suite that needs a curve must say how many checkpoints it has")

    def view(self, world: World) -> World:
        """The world as this suite asks for its concepts. Raises ValueError if the world has no such view."""
        if not self.across:
            return world
        if world.all_styles_view is None:
            raise ValueError(f"this suite asks for concepts in every style, and the world {world.name!r} has one style")
        return world.all_styles_view()


def tasks_of(name: str, world: World, asked: Asked = NOTHING) -> tuple[World, tuple[Task, ...]]:
    """The tasks of a suite in `world`, by the world's own rule if it has one, and the world as they ask for concepts.

    Raises UnknownName, and ValueError if there is nothing to forget or the suite does not take what is `asked`.
    """
    suite, own = SUITES.get(name), world.tasks.get(name)
    if asked != NOTHING:
        return suite.view(world), require_asked(name, asked)(world, asked)
    if own is not None:
        return world, own()
    view = suite.view(world)
    return view, suite.tasks(view)


def require_asked(name: str, asked: Asked) -> Callable[[World, Asked], tuple[Task, ...]]:
    """The suite's rule for what a user asks to be forgotten. Raises ValueError if it has none."""
    suite = SUITES.get(name)
    if asked.several and not suite.several:
        raise ValueError(f"--k is for the suite {' and '.join(n for n in SUITES.names() if SUITES.get(n).several)}")
    if suite.asked is None:
        able = [other for other in SUITES.names() if SUITES.get(other).asked]
        raise ValueError(f"the suite {name!r} chooses itself what to forget; --forget is for {', '.join(able)}")
    return suite.asked


def nearest_neighbour(world: World, concept: str, among: Sequence[str] = ()) -> tuple[str, float]:
    """The concept closest to `concept`, of the same domain or of `among` if given, and how close it is.

    Raises ValueError for a concept that is alone in its domain.
    """
    siblings = [c for c in among or world.domains[world.domain_of(concept)] if c != concept]
    if not siblings:
        raise ValueError(f"{concept!r} is the only concept of its domain, so it has no nearest neighbour")
    return max(((c, world.closeness(concept, c)) for c in siblings), key=lambda pair: pair[1])


def banded_targets(world: World, domain: str) -> dict[str, str]:
    """Three targets of a domain, band -> concept, by closeness to the nearest neighbour.

    "far" has the least close nearest neighbour, "near" the closest, "middle" the one nearest to half way between;
    the neighbours of the first two are no targets if there are others, so that a twin is not forgotten from both
    sides. What the world's presets were tuned on is no target. Raises ValueError for a domain of fewer than three
    concepts without these.
    """
    concepts = [concept for concept in world.domains[domain] if concept not in world.tuning_concepts]
    if len(concepts) < 3:
        raise ValueError(f"domain {domain!r} of world {world.name!r} has fewer than three concepts to forget")
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
    """Three targets a domain, one in each band of closeness; everything else must stay.

    Raises ValueError for a world that has a domain with too few concepts.
    """
    return banded(world, tuple(world.domains))


def banded(world: World, domains: Sequence[str]) -> tuple[Task, ...]:
    """The tasks of `finegrained` whose targets are of `domains`."""
    return tuple(
        forget_one(world, concept, band)
        for domain in domains
        for band, concept in banded_targets(world, domain).items()
    )


def single(world: World, concepts: Sequence[str] = ()) -> tuple[Task, ...]:
    """A task for each of `concepts`, or for the world's fine-grained targets, with what it would keep alone."""
    if concepts and "finegrained" not in world.tasks:  # then a domain may have too few concepts for three targets
        usual = banded(
            world, [d for d, members in world.domains.items() if len({*members} - {*world.tuning_concepts}) >= 3]
        )
    else:
        usual = tasks_of("finegrained", world)[1]
    known = {task.forget[0]: task for task in usual}
    if any(c in world.styles for c in concepts):
        known |= {task.forget[0]: task for task in tasks_of("style", world)[1]}
    alone = world.single_task or (lambda concept: forget_one(world, concept))
    return tuple(known.get(c) or alone(c) for c in concepts or known)


def targets_by_domain(world: World) -> list[tuple[str, ...]]:
    """For each domain, concepts to forget: its fine-grained targets from "near" to "far", then others.

    Others by how close their nearest neighbour is, but last those that are nearest to a target before them or that
    presets were tuned on: a twin is not to be forgotten from both sides.
    """
    order = ("near", "middle", "far")
    chosen = sorted(tasks_of("finegrained", world)[1], key=lambda t: order.index(t.band) if t.band in order else 3)
    out = []
    for members in (members for members in world.domains.values() if len(members) > 1):  # something of each must stay
        found = [task.forget[0] for task in chosen if task.forget[0] in members]
        nearest_of = {c: nearest_neighbour(world, c) for c in members}
        others = {c: nearest_of[c] for c in members if c not in found}
        while others:
            twins = {nearest_of[c][0] for c in found} | set(world.tuning_concepts)
            following = min(others, key=lambda c: (c in twins, -others[c][1], c))
            found.append(following)
            del others[following]
        out.append(tuple(found))
    return out


def targets_and_singles(world: World, asked: Asked) -> tuple[list[tuple[str, ...]], tuple[Task, ...]]:
    """Targets by domain, none where the user names some, and a task for each target or concept named."""
    targets = [] if asked.forget else targets_by_domain(world)
    return targets, single(world, asked.forget or tuple(c for group in targets for c in group))


def multi(world: World, asked: Asked = NOTHING) -> tuple[Task, ...]:
    """Several concepts at once."""
    return several.multi(world, asked, *targets_and_singles(world, asked))


def sequential(world: World, asked: Asked = NOTHING) -> tuple[Task, ...]:
    """One concept after another."""
    return several.sequential(world, asked, *targets_and_singles(world, asked))


def resurgence(world: World, asked: Asked = NOTHING) -> tuple[Task, ...]:
    """A near twin of each domain, forgotten, and then the model trained further."""
    chosen = single(world, asked.forget) if asked.forget else near_twins(world)
    nearest = {t.forget[0]: nearest_neighbour(world, t.forget[0], t.in_domain)[0] for t in chosen if t.in_domain}
    return several.resurgence(world, asked, chosen, nearest, several.HARMLESS + several.RELEARNING)


def near_twins(world: World) -> tuple[Task, ...]:
    """The fine-grained targets whose nearest neighbour is closest, one a domain."""
    alone = single(world)
    return tuple(task for task in alone if task.band == "near") or alone


def style(world: World) -> tuple[Task, ...]:
    """Each style but the plain one; the other styles must stay, and every concept in the plain style."""
    if len(world.styles) < 3:
        raise ValueError(f"the world {world.name!r} has fewer than two styles besides the plain one")
    return tuple(
        Task(one, (one,), tuple(other for other in world.styles if other != one), world.concepts)
        for one in world.styles[1:]
    )


def across_styles(world: World) -> tuple[Task, ...]:
    """One target a domain, in every style: the one whose nearest neighbour is closest.

    The other concepts of the domain must stay, and every style. Prompts about styles name concepts; what they name is
    no target if there are others, so that no picture is asked both to show and not to show it. Nor is what the world's
    presets were tuned on.
    """
    asked = [p for style in world.styles for split in SPLITS for p in world.prompts(split, style)]
    tasks = []
    for concepts in world.domains.values():
        named = {c for c in concepts if any(re.search(rf"\b{re.escape(c)}\b", prompt) for prompt in asked)}
        lone = set(concepts) - named - set(world.tuning_concepts) or set(concepts) - set(world.tuning_concepts)
        target = max(lone, key=lambda c: (nearest_neighbour(world, c)[1], c)) if len(lone) > 1 else next(iter(lone))
        siblings = tuple(c for c in concepts if c != target)
        tasks.append(Task(target, (target,), siblings, world.styles, "near"))
    return tuple(tasks)


def search(world: World) -> tuple[Task, ...]:
    """The targets that presets are tuned on, which no board forgets."""
    if not world.tuning_concepts:
        raise ValueError(f"the world {world.name!r} sets no concept aside to tune on")
    return tuple(forget_one(world, concept) for concept in world.tuning_concepts)


def smoke(world: World) -> tuple[Task, ...]:
    """One target with two concepts in its domain and two outside: every room is entered, nothing is learnt."""
    task = forget_one(world, world.concepts[0])
    return (Task(task.name, task.forget, task.in_domain[:2], task.out_of_domain[:2]),)


# one setting at a time, from the usual ones
NOISE: tuple[dict[str, Any], ...] = (
    {},
    *({"t_max": t} for t in (300, 600)),
    *({"t_min": t} for t in (300, 600)),
    *({"weighting": name} for name in ("snr", "logistic")),
    *({"x_source": name} for name in ("student", "teacher")),
    *({"parameters": name} for name in ("attn2-kv", "not-attn2", "unet")),
)

SUITES: Registry[Suite] = Registry("suite")
SUITES.add(
    "finegrained",
    Suite(
        "three targets a domain, from a lonely one to a near twin; kept: all other concepts",
        finegrained,
        asked=lambda world, asked: single(world, asked.forget),
    ),
)
SUITES.add("style", Suite("each style; kept: the other styles, and every concept in the plain one", style))
SUITES.add(
    "object",
    Suite(
        "a near twin a domain, in every style; kept: the rest of the domain, and every style",
        across_styles,
        across=True,
    ),
)
SUITES.add(
    "multi",
    Suite(
        "2, 4 and 8 concepts at once (--k, --forget); kept: all others", multi, asked=multi, several=True, together=True
    ),
)
SUITES.add(
    "sequential",
    Suite(
        "five requests (--forget), each from the weights that the last one left; kept: all others",
        sequential,
        asked=sequential,
        together=True,
    ),
)
SUITES.add(
    "resurgence",
    Suite(
        "does it come back? a near twin a domain (--forget), then training on harmless pictures, or a few of its own",
        resurgence,
        protocol={"images_per_concept": 8, "curve_images": 8},
        curve=5,
        curve_needed="what comes back is read off checkpoints along the training that follows the unlearning",
        asked=resurgence,
    ),
)
SUITES.add(
    "noise-ablation",
    Suite(
        "mimmu by range and weight of t, source of z_t and weights trained, on a near twin a domain",
        near_twins,
        variants={"mimmu": NOISE},
        asked=lambda world, asked: single(world, asked.forget),
    ),
)
SUITES.add(
    "search",
    Suite(
        "the targets that presets are tuned on, fewer images; no board forgets them",
        search,
        protocol={"images_per_concept": 8},
    ),
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
