"""A registry from names to values of one kind: methods, metrics, worlds, suites or engines.

A built-in entry is a string "module:attribute" that is imported when it is used, so that listing names is fast. Other
installed packages add entries through entry points. A running program adds entries with a decorator.
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class UnknownName(ValueError):
    """A name that is not registered; the message lists the nearest known names."""


class DuplicateName(ValueError):
    """A name registered twice for different things."""


class BrokenEntry(ValueError):
    """An entry point of another package that can't be used; the message names the package and the reason."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A text that helps a user who mistyped `name`: the most similar names of `known`, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


class Registry(Generic[T]):
    """Maps names to values of one kind.

    Args:
        noun: the word for an entry in messages, e.g. "method".
        builtin: name -> "module:attribute", imported on first `get`.
        group: entry-point group in which other packages announce entries, e.g. "lethe.methods".
        unlisted: names that `names` leaves out. `get` still returns their values.

    Example:
        >>> metals = Registry("metal", {"pi": "math:pi"})
        >>> metals.add("tin", 50)
        >>> metals.names(), metals.get("tin"), round(metals.get("pi"), 2)
        (('pi', 'tin'), 50, 3.14)
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
        self._points: dict[str, EntryPoint] = {}  # name -> the entry point that announced it
        self._homes: dict[str, str] = {}  # name -> the module of the plug-in that registered it
        self._broken: dict[str, str] = {}  # name -> the reason why its entry point can't be used
        self._discovered = group is None

    def add(self, name: str, target: T | str) -> None:
        """Register `target`, a value or a lazy "module:attribute" string, as `name`.

        Raises DuplicateName if `name` already stands for something else.
        """
        self._discover()
        if name in self._entries and self._entries[name] != target:
            raise DuplicateName(f"{self.noun} {name!r} is registered twice: {self._entries[name]!r} and {target!r}")
        self._entries[name] = target

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""

        def decorate(target: T) -> T:
            self.add(name, target)
            return target

        return decorate

    def get(self, name: str) -> T:
        """The value called `name`.

        Raises UnknownName for a name that is not registered, BrokenEntry for an entry point that can't be used, and
        what the import raises for any other lazy entry.
        """
        self._discover()
        if name in self._broken:
            raise BrokenEntry(f"{self.noun} {name!r} of {self.package(name)} can't be used: {self._broken[name]}")
        if name not in self._entries:
            raise UnknownName(f"unknown {self.noun} {name!r}: {nearest(name, self._entries)}")
        target = self._entries[name]
        if isinstance(target, str):
            target = self._import(name, target)
            self._entries[name] = target
        return target

    def names(self) -> tuple[str, ...]:
        """All names except unlisted and broken ones: first the built-in names, then others as they were registered."""
        self._discover()
        return tuple(name for name in self._entries if name not in self._unlisted and name not in self._broken)

    def usable(self, check: Callable[[str, T], None] = lambda name, value: None) -> tuple[str, ...]:
        """The `names` without entry points of other packages that can't be used.

        Each entry point is imported, and `check` is called with its name and value. If the import or the check raises
        an exception, the entry point counts as broken from then on, and a warning that names its package is logged.
        """
        for name in self.names():
            if name in self._points:
                try:
                    check(name, self.get(name))
                except Exception as error:
                    self._break(name, error)
        return self.names()

    def package(self, name: str) -> str:
        """The package whose entry point announced `name`, for messages; "" for any other entry."""
        return _package(self._points[name]) if name in self._points else ""

    def set_home(self, name: str, module: str) -> None:
        """Note that the plug-in `module` registered `name`, which may stand for a value from another module."""
        self._homes[name] = module

    def homes(self, value: object) -> tuple[str, ...]:
        """The modules of the plug-ins and packages that registered `value`, sorted; () for Lethe's own values."""
        names = [name for name, one in self._entries.items() if one is value]
        homes = {self._homes[name] for name in names if name in self._homes}
        return tuple(sorted(homes | {self._points[name].module for name in names if name in self._points}))

    def discard(self, name: str) -> None:
        """Forget the entry `name`, if there is one."""
        self._entries.pop(name, None)
        self._homes.pop(name, None)

    @contextmanager
    def temporarily(self) -> Iterator[None]:
        """Undo, at the end of a `with` block, every change that the block made to the registry."""
        saved = dict(self._entries), dict(self._points), dict(self._broken), dict(self._homes), self._discovered
        try:
            yield
        finally:
            self._entries, self._points, self._broken, self._homes, self._discovered = saved

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def _import(self, name: str, target: str) -> T:
        module, _, attributes = target.partition(":")
        try:
            found = importlib.import_module(module)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except Exception as error:
            if name not in self._points:
                raise
            reason = f"{type(error).__name__}: {error}"
            raise BrokenEntry(f"{self.noun} {name!r} of {self.package(name)} can't be used: {reason}") from error
        return found  # type: ignore[return-value]

    def _break(self, name: str, error: Exception) -> None:
        cause = error.__cause__ if isinstance(error, BrokenEntry) and error.__cause__ else error
        self._broken[name] = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
        log.warning("%s %r of %s is left out: %s", self.noun, name, self.package(name), self._broken[name])

    def _discover(self) -> None:
        if self._discovered or self._group is None:
            return
        self._discovered = True
        for point in entry_points(group=self._group):
            known = self._entries.get(point.name)
            if known is None:
                self._entries[point.name], self._points[point.name] = point.value, point
            elif known != point.value:
                message = "%s %r of %s is left out: the name is taken by %s"
                log.warning(message, self.noun, point.name, _package(point), self._taken(point.name, known))

    def _taken(self, name: str, known: T | str) -> str:
        return self.package(name) or f"{known!r} of Lethe itself"


def _package(point: EntryPoint) -> str:
    """A text for messages: the package of an entry point, and the entry point."""
    package = f"the package {point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    return f"{package} (entry point {point.name} = {point.value})"
