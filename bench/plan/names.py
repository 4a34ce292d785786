"""Which methods and metrics a run asks for: by name, by pattern as in "esd*", or all of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from bench.core.registry import Registry, UnknownName, nearest
from bench.plan import plugins
from methods import METHODS, REFERENCES
from metrics import METRICS

ALL = "all"  # stands for every registered name
COST = "cost"  # a name for --metrics that is no metric


def is_pattern(name: str) -> bool:
    """Whether `name` is a pattern of the shell: "*", "?" or "[...]" are in it."""
    return any(letter in name for letter in "*?[")


def named(name: str, asked: Sequence[str]) -> bool:
    """Whether one of `asked` is `name`, a pattern that fits it, or "all"."""
    return any(each in (name, ALL) or (is_pattern(each) and fnmatch.fnmatchcase(name, each)) for each in asked)


def expand(asked: Sequence[str], registry: Registry[Any], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The registered names that `asked` stands for, each once, in the order of `asked`.

    Args:
        extra: further names that are allowed, and that no pattern stands for.

    Raises UnknownName for a name that is not registered and for a pattern that fits no name; the message has the
    nearest names.
    """
    found: list[str] = []
    for name in asked:
        if name == ALL:
            found += plugins.usable(registry)
        elif is_pattern(name) and name not in registry:
            matches = fnmatch.filter(plugins.usable(registry), name)
            if not matches:
                plain = "".join(letter for letter in name if letter not in "*?[]")
                known = nearest(plain, (*registry.names(), ALL, *extra))
                raise UnknownName(f"no {registry.noun} fits the pattern {name!r}: {known}")
            found += matches
        elif name in registry or name in extra:
            found.append(name)
        else:
            known = nearest(name, (*registry.names(), ALL, *extra))
            raise UnknownName(f"unknown {registry.noun} {name!r}: {known}")
    return tuple(dict.fromkeys(found))


def method_names(asked: Sequence[str]) -> tuple[str, ...]:
    """The controls, then the methods asked for, each once.

    The oracle is among the controls; `bench.plan.plan.resolve` leaves it out where the world has none.

    >>> method_names(["esd-[ux]"])
    ('pretrained', 'wrecked', 'oracle', 'esd-x', 'esd-u')
    """
    return tuple(dict.fromkeys((*REFERENCES, *expand(asked, METHODS))))


def metric_names(asked: Sequence[str]) -> tuple[str, ...]:
    """The metrics asked for, each once, in the order of columns.

    "cost" may be asked for and adds nothing: what a cell costs is always on the board.
    """
    names = expand(asked, METRICS, (COST,))
    for name in names:
        if name != COST:
            plugins.checked(METRICS, name)
    return tuple(name for name in METRICS.names() if name in names)
