"""The tasks of the natural world: three targets in each domain, and the concepts that look like them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.core.task import Task

Nearest = Callable[[str], tuple[str, ...]]  # concept -> the other concepts of its domain, the most alike first

NEIGHBOURS = 5  # K of FADE's neighbourhoods (Thakral et al., CVPR 2025)
ALL = "all"
# As many as FADE takes of each data set. Which ones is Lethe's choice: names that captions use, so that Stable
# Diffusion can draw them, each with relatives in its data set.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "dogs": ("golden retriever", "German shepherd", "Pomeranian"),
    "flowers": ("sunflower", "yellow iris", "barberton daisy"),
    "birds": ("Blue Jay", "Barn Swallow", "Black Tern"),
}


def neighbours(text: str | None) -> int | None:
    """The number of neighbours in `--neighbours`; None for "all". Raises ValueError."""
    if text == ALL:
        return None
    try:
        count = NEIGHBOURS if text is None else int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"--neighbours takes a number of concepts, at least 1, or {ALL!r}, not {text!r}")
    return count


def finegrained(domains: Mapping[str, tuple[str, ...]], nearest: Nearest, count: int | None) -> tuple[Task, ...]:
    """A task for each of TARGETS.

    With a `count`, a task keeps the `count` nearest neighbours of its target (for NRA), and 3 (count + 1) concepts of
    each other domain (for ORA), which `circle` chooses. So all tasks have the same number of images, and share most of
    them. Without a `count`, a task keeps every other concept. Raises ValueError if a domain has fewer concepts than
    that.
    """
    return tuple(single_task(target, domains, nearest, count) for targets in TARGETS.values() for target in targets)


def single_task(
    concept: str, domains: Mapping[str, tuple[str, ...]], nearest: Nearest, count: int | None
) -> Task:  # fmt: skip
    """The task of forgetting one concept, a target or not, by the rule of `finegrained`. Raises ValueError."""
    own = next(domain for domain, concepts in domains.items() if concept in concepts)
    others = tuple(c for c in domains[own] if c != concept)
    circles = [of if count is None else circle(d, nearest, count) for d, of in domains.items() if d != own]
    near = others if count is None else nearest(concept)[:count]
    return Task(concept, (concept,), near, tuple(c for found in circles for c in found))


def circle(domain: str, nearest: Nearest, count: int) -> tuple[str, ...]:
    """The targets of a domain, then in turn the next nearest concept of each, until each target has `count` of them."""
    targets = TARGETS[domain]
    ranked = {target: [c for c in nearest(target) if c not in targets] for target in targets}
    if len(targets) * count > len(ranked[targets[0]]):
        most = len(ranked[targets[0]]) // len(targets)
        raise ValueError(f"--neighbours {count}: {domain} have concepts for {most} of each target; or say {ALL!r}")
    found = list(targets)
    while len(found) < len(targets) * (count + 1):
        target = targets[len(found) % len(targets)]
        found.append(next(c for c in ranked[target] if c not in found))
    return tuple(found)
