"""Checks for mistakes in the attributes of a world, before anything is computed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from bench.core.config import Protocol
from bench.core.registry import BrokenEntry, nearest
from bench.core.text.alike import same_letters
from bench.plan import column_names
from bench.plan.plugin_checks import InvalidEntry, check_settings, is_text, require_name, require_same
from bench.worlds import World
from methods import METHODS


def check_world(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the world `name`, is a World with valid attributes."""
    if isinstance(found, type) and issubclass(found, World):
        undefined = ", ".join(sorted(found.__abstractmethods__))
        defines = f"define {undefined} in it, then register" if undefined else "register"
        raise InvalidEntry(f"world {name!r} is the class {found.__name__}: {defines} an instance, {found.__name__}()")
    if not isinstance(found, World):
        raise InvalidEntry(f"world {name!r} is no World but {found!r}: it must be an instance of bench.worlds.World")
    require_name("world", name)
    said = f"world {name!r} (class {type(found).__name__})"
    if missing := [a for a in ("name", "about") if not is_text(getattr(found, a, None))]:
        raise InvalidEntry(f"{said} does not say its {', '.join(missing)}: each is an attribute, a text")
    require_same("world", name, found.name)
    _check_concepts(said, found)
    if not isinstance(protocol := getattr(found, "protocol", None), Protocol):
        raise InvalidEntry(f"{said}: protocol is {protocol!r}; it must be a bench.core.config.Protocol")
    taken = {"text", *(end.removeprefix("_") for end in column_names.ENDS)}
    if wrong := [one for one in found.other_distances if one in taken or not re.fullmatch(r"\w+", one)]:
        raise InvalidEntry(
            f"world {name!r} measures a distance {wrong[0]!r}; a distance's name has letters, digits and _ only, and "
            f"is none of {', '.join(sorted(taken))}"
        )


def check_presets(world: World) -> None:
    """Raise InvalidEntry unless `presets` maps names of methods to settings that these methods have.

    Call it when all plug-ins are loaded. The check imports the methods.
    """
    said = f"world {world.name!r}"
    if not isinstance(world.presets, Mapping):
        raise InvalidEntry(f"{said}: presets is {world.presets!r}; it must map names of methods to settings")
    for method, values in world.presets.items():
        label = f"presets[{method!r}]"
        if method not in METHODS:
            raise InvalidEntry(f"{said}: {label}: no method has this name; {nearest(str(method), METHODS.names())}")
        try:
            config = METHODS.get(method).Config
        except BrokenEntry:  # a method of another package that can't be imported here, so the run can't use it
            continue
        check_settings(said, label, config, values)


def check_judges(world: World, concepts: Iterable[str]) -> None:
    """Raise InvalidEntry if the column `judge_NAME` of a judge would have the name of another column.

    Args:
        world: the world whose judges are checked.
        concepts: concepts of the world. Only their judges are checked.
    """
    taken = column_names.ENDS
    if wrong := [n for n in map(world.judge_of, concepts) if f"_{n}" in taken]:
        raise InvalidEntry(
            f"world {world.name!r} has a judge called {wrong[0]!r}; call it otherwise, since the column "
            f"'judge_{wrong[0]}' has another meaning"
        )


def _check_concepts(said: str, world: World) -> None:
    """Raise InvalidEntry unless the concepts and styles of a world are valid.

    All concepts and styles must have different names, also after `same_letters`, and so must the domains.
    `tuning_concepts` and `oracle_concepts` must contain only concepts of the world. `extra_concepts` must contain only
    concepts and styles of the world.

    Args:
        said: name of the world for messages.
    """
    domains = getattr(world, "domains", None)
    if not isinstance(domains, Mapping) or not domains or not all(map(_names, domains.values())):
        raise InvalidEntry(
            f"{said}: domains is {domains!r}; it must be a dict with at least one domain, from the domain's name to a "
            "tuple of concepts: {'dog': ('poodle', 'beagle')}"
        )
    if world.styles != () and not _names(world.styles):
        raise InvalidEntry(
            f"{said}: styles is {world.styles!r}; it must be a tuple of texts, of which the first is the plain style: "
            "('photo', 'sketch'); or () for a world without styles"
        )
    names = (*world.concepts, *world.styles)
    if wrong := [domain for domain in domains if not _is_name(domain)]:
        raise InvalidEntry(f"{said} has a domain {wrong[0]!r}; a domain's name must be a text that is not empty")
    _require_different(said, "concepts or styles", names)
    _require_different(said, "domains", tuple(domains))
    for attribute, known in (
        ("tuning_concepts", world.concepts),
        ("oracle_concepts", world.concepts),
        ("extra_concepts", names),
    ):
        value = getattr(world, attribute)
        if not isinstance(value, tuple) or (wrong := [one for one in value if one not in known]):
            unknown = ", ".join(map(repr, wrong)) if isinstance(value, tuple) else repr(value)
            raise InvalidEntry(f"{said}: {attribute} has {unknown}; it must be a tuple of concepts in domains")


def _require_different(said: str, noun: str, names: tuple[str, ...]) -> None:
    """Raise InvalidEntry if two of `names` are equal, or differ only in what `same_letters` removes."""
    if twice := [one for one in dict.fromkeys(names) if names.count(one) > 1]:
        raise InvalidEntry(f"{said} has two {noun} {twice[0]!r}; each must have a name of its own")
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(same_letters(name), name)) != name:
            raise InvalidEntry(
                f"{said} has two {noun} that look alike, {other!r} and {name!r}; their names must differ in more than "
                "case, white space and forms of one letter"
            )


def _names(value: Any) -> bool:
    """Whether `value` is a tuple of at least one valid name."""
    return isinstance(value, tuple) and bool(value) and all(map(_is_name, value))


def _is_name(value: Any) -> bool:
    """Whether `value` is a text with at least one visible character, and can be written to a file in UTF-8."""
    if not isinstance(value, str) or not same_letters(value):
        return False
    return not any(unicodedata.category(c) == "Cs" for c in value)  # half of a surrogate pair
