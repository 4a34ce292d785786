"""What a suite is: a rule that turns a world into tasks, with the settings that it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.core.task import Task
from bench.suites.request import Request
from bench.worlds.base import World

NO_REQUEST = Request()


@dataclass(frozen=True)
class Suite:
    """A rule that turns a world into tasks.

    Everything in a task is part of the fingerprint of a board, so two boards compare only if their tasks are equal.

    Args:
        name: as in `--suite`; unique among suites.
        about: one line for `ls suites`.
        choose: world -> the tasks of the suite's own choice. It may raise ValueError if it finds nothing to forget.
        choose_requested: (world, request) -> the tasks for what a user requests. None: the suite takes no `--forget`.
        protocol: field of `bench.core.config.Protocol` -> the value that replaces the world's own.
        training: field of `methods.base.MethodConfig` -> the value that replaces that of every method.
        all_styles: True: prompts ask for concepts in every style of the world; False: in the plain style only.
        curve: number of checkpoints along each training that are measured unless `--curve` says otherwise: 0 for none,
            or at least 2.
        curve_reason: why the suite measures nothing without a curve; "" for a suite that needs no curve.
        variants: method -> settings (field -> value) of each row that the method has in place of its usual one.
        takes_counts: True: the suite takes `--k`, the numbers of concepts to forget at once.
        one_model: True: one model forgets all requested concepts, so some of each domain must be kept.
        source: where the rule comes from, for `ls suites`.

    Raises ValueError for a curve of one checkpoint, and for a reason without a curve.

    A suite that forgets the first concept of each domain and keeps the others of that domain:

    >>> from bench.suites import SUITES, Suite, Task
    >>> from bench.worlds import WORLDS
    >>> def first_of_each_domain(world):
    ...     return tuple(
    ...         Task(name=members[0], forget=members[:1], in_domain=members[1:], out_of_domain=())
    ...         for members in world.domains.values()
    ...     )
    >>> suite = Suite("firsts", "the first concept of each domain", first_of_each_domain, source="an example")
    >>> [task.name for task in suite.tasks(WORLDS.get("pocket"))]
    ['golden retriever', 'red rose', 'blue jay']

    A plug-in then registers it: `SUITES.add("firsts", suite)`.
    """

    name: str
    about: str
    choose: Callable[[World], tuple[Task, ...]]
    choose_requested: Callable[[World, Request], tuple[Task, ...]] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    all_styles: bool = False
    curve: int = 0
    curve_reason: str = ""
    variants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    takes_counts: bool = False
    one_model: bool = False
    source: str = "Lethe"

    def __post_init__(self) -> None:
        if self.curve < 0 or self.curve == 1:
            raise ValueError(f"a suite's curve must have at least 2 checkpoints, or 0 for no curve, not {self.curve}")
        if self.curve_reason and not self.curve:
            raise ValueError("a suite with a curve_reason needs a curve; curve is 0, and must be at least 2")

    def view(self, world: World) -> World:
        """The world whose prompts the tasks of `world` use: with all styles, or `world` itself.

        A world that has a rule of its own for this suite is returned as it is. Raises ValueError if the suite uses all
        styles and the world has only one.
        """
        if not self.all_styles or self.name in world.tasks:
            return world
        if (view := world.all_styles_view()) is None:
            raise ValueError(
                f"the suite {self.name!r} asks for concepts in every style, and the world {world.name!r} has only one"
            )
        return view

    def tasks(self, world: World, request: Request = NO_REQUEST) -> tuple[Task, ...]:
        """The tasks of this suite in `world`.

        A request comes first, then the world's own rule for this suite, then the suite's rule. Raises ValueError if
        there is nothing to forget, or if the suite can't take the request.
        """
        if request:
            self.check_request(request)
            assert self.choose_requested is not None
            return self.choose_requested(world, request)
        if self.name in world.tasks:
            return world.tasks[self.name]()
        return self.choose(self.view(world))

    def check_request(self, request: Request) -> None:
        """Raise ValueError if the suite does not take the flags that `request` comes from."""
        if request.counts and not self.takes_counts:
            raise ValueError(f"the suite {self.name!r} takes no --k; leave it out, or choose a suite such as multi")
        if request and self.choose_requested is None:
            raise ValueError(
                f"the suite {self.name!r} takes no --forget: it chooses the concepts itself; leave it out, or choose a "
                "suite such as finegrained, multi or sequential"
            )
