"""Resolves the methods and metrics that a run asks for: by name, pattern ("esd*"), tag ("tag:inference"), or "all"."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from bench.core.registry import Registry, UnknownName, nearest
from bench.plan import plugins
from methods import METHODS, REFERENCES
from metrics import METRICS, OF_CAPTIONS

ALL = "all"  # stands for every registered name
TAG = "tag:"  # begins a word for all methods with a tag: "tag:closed-form"
COST = "cost"  # --metrics accepts this name, although it is not a metric


def is_pattern(name: str) -> bool:
    """Whether `name` is a shell pattern: it contains "*", "?" or "["."""
    return any(letter in name for letter in "*?[")


def named(name: str, asked: Sequence[str]) -> bool:
    """Whether one of `asked` is `name`, a pattern that matches `name`, a tag of the method `name`, or "all"."""
    return any(
        each in (name, ALL)
        or (is_pattern(each) and fnmatch.fnmatchcase(name, each))
        or (each.startswith(TAG) and name in METHODS and each.removeprefix(TAG) in METHODS.get(name).tags)
        for each in asked
    )


def tagged(tag: str) -> list[str]:
    """The names of the methods with a tag. Raises UnknownName for a tag that no method has."""
    found = [name for name in plugins.usable(METHODS) if tag in METHODS.get(name).tags]
    if not found:
        known = dict.fromkeys(each for name in plugins.usable(METHODS) for each in METHODS.get(name).tags)
        raise UnknownName(f"no method has the tag {tag!r}: {nearest(tag, [*known])}")
    return found


def expand(asked: Sequence[str], registry: Registry[Any], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The registered names that `asked` stands for, each once, in the order of `asked`.

    Args:
        asked: names, shell patterns, "tag:TAG" for the methods with a tag, or "all" for every registered name that can
            be used.
        registry: the registry of methods or of metrics.
        extra: additional names that are allowed. Patterns and "all" do not include them.

    Raises UnknownName if a name is not registered or if a pattern does not match any name. The message has the nearest
    names.
    """
    found: list[str] = []
    for name in asked:
        if name == ALL:
            found += plugins.usable(registry)
        elif name.startswith(TAG) and registry is METHODS:
            found += tagged(name.removeprefix(TAG))
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
    """The names of the controls, then the names of the methods that `asked` stands for, each once.

    The oracle is one of the controls. `bench.plan.plan.resolve` leaves it out if the world has no oracle. Raises
    UnknownName like `expand`.

    >>> method_names(["esd-[ux]"])
    ('pretrained', 'wrecked', 'oracle', 'esd-x', 'esd-u')
    >>> method_names(["tag:closed-form"])[3:]
    ('uce', 'rece', 'speed')
    """
    return tuple(dict.fromkeys((*REFERENCES, *expand(asked, METHODS))))


def metric_names(asked: Sequence[str], captions: bool = False) -> tuple[str, ...]:
    """The names of the metrics that `asked` stands for, each once, in the order of the board's columns.

    Args:
        asked: names, shell patterns, or "all".
        captions: whether the world has captions. Then the names and patterns stand for the metrics of captions too.

    `asked` may contain "cost". It adds no metric, since the board always has the costs of cells. Raises UnknownName
    like `expand`.
    """
    alone = [name for name in asked if captions and _only_of_captions(name)]
    names = expand([name for name in asked if name not in alone], METRICS, (COST,))
    for name in names:
        if name != COST:
            plugins.checked(METRICS, name)
    if (of := [name for name in OF_CAPTIONS if name in asked]) and not captions:
        raise UnknownName(f"the metric {of[0]!r} needs captions, which a file of --concepts can name: captions: FILE")
    more = tuple(name for name in OF_CAPTIONS if captions and named(name, asked))
    return tuple(name for name in METRICS.names() if name in names) + more


def _only_of_captions(pattern: str) -> bool:
    """Whether a pattern matches a metric of captions and no other metric."""
    return (
        is_pattern(pattern)
        and bool(fnmatch.filter(OF_CAPTIONS, pattern))
        and not fnmatch.filter(METRICS.names(), pattern)
    )
