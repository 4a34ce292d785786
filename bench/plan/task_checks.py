"""Checks of what a suite makes of a world, before anything is computed: its tasks, and the texts of their concepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, TypeVar

from bench.core.task import Task
from bench.plan.plugin_checks import InvalidEntry, is_text
from bench.plan.world_checks import check_judges
from bench.suites import Request, Suite
from bench.worlds import World, WorldUnavailable
from bench.worlds.base import SPLITS

T = TypeVar("T")


ANSWER = "it must answer for each concept and style that a task evaluates"


def answer(world: World, call: str, ask: Callable[[], T], right: str = ANSWER) -> T:
    """The result of `ask`, which asks `world` for something.

    Args:
        world: the world, for messages.
        call: what is asked, for messages: "prompts('forget', 'tulip')".
        ask: the function that asks.
        right: what would be right, for messages.

    Raises WorldUnavailable as the world does. Any other exception becomes an InvalidEntry that names the call.
    """
    try:
        return ask()
    except (WorldUnavailable, InvalidEntry):
        raise
    except Exception as error:
        said = f"world {world.name!r}: {call} raised {type(error).__name__}: {error}"
        raise InvalidEntry(f"{said}; {right}") from error


def tasks_of(suite: Suite, world: World, request: Request) -> tuple[Task, ...]:
    """The tasks of a suite in a world, checked.

    There must be a task, and tasks must have different names. Each must forget and keep only known concepts, each once.

    Raises InvalidEntry, and ValueError as the suite does for a request or a world that it can't use.
    """
    said = f"suite {suite.name!r} in the world {world.name!r}"
    try:
        tasks = suite.tasks(world, request)
    except (ValueError, WorldUnavailable):
        raise
    except Exception as error:
        raise InvalidEntry(f"{said} raised {type(error).__name__}: {error}; it must return tasks") from error
    if not isinstance(tasks, tuple) or not tasks or not all(isinstance(task, Task) for task in tasks):
        raise InvalidEntry(f"{said} made {tasks!r} of it; it must be a tuple of at least one bench.suites.Task")
    names = [task.name for task in tasks]
    for task in tasks:
        if not is_text(task.name) or names.count(task.name) > 1:
            raise InvalidEntry(f"{said}: a task is called {task.name!r}; each task must have a name of its own")
        for one in task.chain:
            _check_task(f"{said}: task {one.name!r}", world, one)
        _check_task(f"{said}: task {task.name!r}", world, task)
    return tasks


def _check_task(said: str, world: World, task: Task) -> None:
    known = (*world.concepts, *world.styles)
    parts = {name: getattr(task, name) for name in ("forget", "in_domain", "out_of_domain")}
    for name, concepts in parts.items():
        if not isinstance(concepts, tuple):
            raise InvalidEntry(f"{said}: {name} is {concepts!r}; it must be a tuple of concepts")
        if wrong := [concept for concept in concepts if concept not in known]:
            raise InvalidEntry(f"{said}: {name} has {wrong[0]!r}, which the world does not have; use its concepts only")
        if wrong := [concept for concept in concepts if concept in world.extra_concepts]:
            raise InvalidEntry(f"{said}: {name} has {wrong[0]!r}, one of the world's extra_concepts, which no task has")
        if twice := [concept for concept in concepts if concepts.count(concept) > 1]:
            raise InvalidEntry(f"{said}: {name} has {twice[0]!r} twice; each concept must be there once")
    if not task.forget:
        raise InvalidEntry(f"{said} forgets nothing; forget must have at least one concept")
    for (one, concepts), (other, others) in combinations(parts.items(), 2):
        if both := [concept for concept in concepts if concept in others]:
            raise InvalidEntry(f"{said}: {both[0]!r} is both in {one} and in {other}; a concept must have one role")
    related = {member for concept in task.forget for member in world.domain_members(concept)}
    if wrong := [concept for concept in task.in_domain if concept not in related]:
        raise InvalidEntry(
            f"{said}: in_domain has {wrong[0]!r}, which has the domain of no forgotten concept; it must be in "
            "out_of_domain"
        )
    if wrong := [concept for concept in task.out_of_domain if concept in related]:
        raise InvalidEntry(
            f"{said}: out_of_domain has {wrong[0]!r}, which has the domain of a forgotten concept; it must be in "
            "in_domain"
        )


def check_concepts(world: World, tasks: Sequence[Task]) -> None:
    """Raise InvalidEntry unless the world has valid texts and the name of a judge for each concept of the tasks.

    No tokenizer is needed. `bench.cells.checks.prompts` compares the tokens of the prompts.
    """
    concepts = tuple(dict.fromkeys(concept for task in tasks for concept in (*task.concepts, *world.extra_concepts)))
    for concept in concepts:
        judge = answer(world, f"judge_of({concept!r})", lambda c=concept: world.judge_of(c))  # type: ignore[misc]
        if not is_text(judge):
            raise InvalidEntry(f"world {world.name!r}: judge_of({concept!r}) is {judge!r}; it must be a judge's name")
        _check_texts(world, concept)
    check_judges(world, concepts)
    for members in (*world.domains.values(), world.styles):
        for split in SPLITS:
            counts = {concept: len(world.prompts(split, concept)) for concept in members if concept in concepts}
            if len({*counts.values()}) > 1:
                few, many = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
                raise InvalidEntry(
                    f"world {world.name!r}: {few!r} has {counts[few]} prompts of the split {split!r} and {many!r} has "
                    f"{counts[many]}; all concepts of a domain must have equally many"
                )


def _check_texts(world: World, concept: str) -> None:
    """Raise InvalidEntry unless every text that asks for `concept` is a text, and the splits share no prompt."""
    prompts = {}
    for split in SPLITS:
        call = f"prompts({split!r}, {concept!r})"
        prompts[split] = answer(world, call, lambda s=split: world.prompts(s, concept))  # type: ignore[misc]
        if not _texts(prompts[split]):
            raise _refused(world, call, prompts[split], "a tuple of at least one prompt, each a text")
        if (again := world.prompts(split, concept)) != prompts[split]:
            raise _refused(world, call, again, f"{prompts[split]!r} as before: the same prompts each time")
        call = f"superclass_prompts({concept!r}, {split!r})"
        above = answer(world, call, lambda s=split: world.superclass_prompts(concept, s))  # type: ignore[misc]
        if above != () and not (_texts(above) and len(above) == len(prompts[split])):
            count = len(prompts[split])
            raise _refused(world, call, above, f"a tuple of {count} prompts, one for each prompt of {concept!r}, or ()")
        if same := [prompt for prompt, own in zip(above, prompts[split], strict=False) if prompt == own]:
            raise _refused(world, call, same[0], f"another prompt than that of {concept!r} itself")
    if both := [prompt for prompt in prompts["forget"] if prompt in prompts["evaluate"]]:
        raise InvalidEntry(
            f"world {world.name!r}: {both[0]!r} is a prompt of {concept!r} in the split 'forget' and in 'evaluate'; "
            "the splits must share no prompt"
        )
    call = f"bare_name({concept!r})"
    if not is_text(name := answer(world, call, lambda: world.bare_name(concept))):
        raise _refused(world, call, name, "the concept's name as a prompt writes it, a text")
    call = f"headnoun({concept!r})"
    noun = answer(world, call, lambda: world.headnoun(concept))
    right = "a pair of its prompts and of the concepts that it names, of which this is one; or None"
    if noun is not None and not (isinstance(noun, tuple) and len(noun) == 2 and all(map(_texts, noun))):
        raise _refused(world, call, noun, right)
    if noun is not None and concept not in noun[1]:
        raise _refused(world, call, noun, right)


def _texts(value: Any) -> bool:
    """Whether `value` is a tuple of at least one text."""
    return isinstance(value, tuple) and bool(value) and all(map(is_text, value))


def _refused(world: World, call: str, found: Any, right: str) -> InvalidEntry:
    return InvalidEntry(f"world {world.name!r}: {call} is {found!r}; it must be {right}")
