"""Names to things: one generic registry for methods, metrics, worlds and suites.

A built-in entry is a lazy "module:attribute" string, so listing names imports nothing heavy. Entries of other
installed packages are found through packaging entry points; entries of a running program are added by decorator.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownName(ValueError):
    """A name that is not registered; the message lists the nearest known names."""


class DuplicateName(ValueError):
    """A name registered twice for different things."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that helps someone who mistyped `name`: the nearest of `known`, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


class Registry(Generic[T]):
    """Maps names to values of one kind.

    Args:
        noun: what an entry is called in messages, e.g. "method".
        builtin: name -> "module:attribute", imported on first `get`.
        group: entry-point group in which other packages announce theirs, e.g. "lethe.methods".
        unlisted: entries that `get` knows and `names` leaves out: they must be asked for by name.
    """

    def __init__(
        self,
        noun: str,
        builtin: Mapping[str, str] | None = None,
        group: str | None = None,
        unlisted: Collection[str] = (),
    ) -> None:
        self.noun = noun
        self._unlisted = unlisted
        self._group = group
        self._entries: dict[str, T | str] = dict(builtin or {})
        self._discovered = group is None

    def add(self, name: str, target: T | str) -> None:
        """Register `target`, a value or a lazy "module:attribute" string, as `name`.

        Raises DuplicateName if `name` already stands for something else.
        """
        self._discover()
        self._add(name, target)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""

        def decorate(target: T) -> T:
            self.add(name, target)
            return target

        return decorate

    def get(self, name: str) -> T:
        """The value called `name`. Raises UnknownName, or what its import raises."""
        self._discover()
        if name not in self._entries:
            raise UnknownName(f"unknown {self.noun} {name!r}: {nearest(name, self._entries)}")
        target = self._entries[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(importlib.import_module(module), attribute)
            self._entries[name] = target
        return target  # type: ignore[return-value]

    def names(self) -> tuple[str, ...]:
        """All names but unlisted ones, built-in ones first, in order of registration."""
        self._discover()
        return tuple(name for name in self._entries if name not in self._unlisted)

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def _add(self, name: str, target: T | str) -> None:
        if name in self._entries and self._entries[name] != target:
            raise DuplicateName(f"{self.noun} {name!r} is registered twice: {self._entries[name]!r} and {target!r}")
        self._entries[name] = target

    def _discover(self) -> None:
        if self._discovered or self._group is None:
            return
        self._discovered = True
        for point in entry_points(group=self._group):
            self._add(point.name, point.value)
