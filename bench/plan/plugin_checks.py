"""Mistakes in a plug-in's methods, metrics, worlds and suites, found before anything is computed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, get_type_hints

from bench.core.overrides import is_settable, require_finite
from bench.plan import column_names
from bench.suites.base import Suite
from bench.worlds import World
from methods import Method
from methods.base import FIDELITIES, MULTI, MethodConfig
from metrics import METRICS, Metric
from metrics.base import NEEDS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
SETTABLE = "bool, int, float, str, Path, a Literal, a tuple of these, or one of these or None"
RESERVED = ("all", "protocol")  # what --methods and --set take besides the names of methods


class InvalidEntry(ValueError):
    """A registered method, metric, world or suite that can't be used; the message says why and what would be right."""


def check_method(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the method `name`, can be run."""
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InvalidEntry(f"method {name!r} is no Method but {found!r}: it must be a subclass of methods.base.Method")
    said = f"method {name!r} (class {found.__name__})"
    _require_name("method", name)
    if name in RESERVED:
        raise InvalidEntry(f"{said}: the name {name!r} has another meaning on the command line; choose another name")
    if missing := [a for a in ("about", "source", "fidelity") if not _words(getattr(found, a, None))]:
        raise InvalidEntry(f"{said} does not say its {', '.join(missing)}: each is a class attribute, a text")
    for attribute, known in (("fidelity", FIDELITIES), ("multi", MULTI)):
        if (value := getattr(found, attribute)) not in known:
            raise InvalidEntry(f"{said}: {attribute} is {value!r}; it must be one of {', '.join(known)}")
    _check_config(said, getattr(found, "Config", None))


def check_metric(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the metric `name`, can be measured and has its own columns."""
    if not isinstance(found, Metric):
        raise InvalidEntry(f"metric {name!r} is no Metric but {found!r}: it must be an instance of metrics.Metric")
    _require_name("metric", name)
    _require_same("metric", name, found.name)
    if isinstance(found.needs, str) or (unknown := [need for need in found.needs if need not in NEEDS]):
        wrong = repr(found.needs) if isinstance(found.needs, str) else ", ".join(map(repr, unknown))
        raise InvalidEntry(f"metric {name!r} needs {wrong}; needs is a tuple of names among {', '.join(NEEDS)}")
    for field, optional in (("compute", False), ("each", True)):
        value = getattr(found, field)
        if not (callable(value) or (optional and value is None)):
            raise InvalidEntry(f"metric {name!r}: {field} is {value!r}; it must be a function of the evidence")
    if other := column_names.collision(name, (one for one in METRICS.names() if one != name)):
        raise InvalidEntry(f"metric {name!r} collides with {other}: choose another name")


def check_world(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the world `name`, is a World whose tables have clear columns."""
    if not isinstance(found, World):
        raise InvalidEntry(f"world {name!r} is no World but {found!r}: it must be an instance of bench.worlds.World")
    _require_name("world", name)
    _require_same("world", name, found.name)
    taken = {"text", *(end.removeprefix("_") for end in column_names.ENDS)}
    if wrong := [one for one in found.other_distances if one in taken or not re.fullmatch(r"\w+", one)]:
        raise InvalidEntry(
            f"world {name!r} measures a distance {wrong[0]!r}; a distance's name has letters, digits and _ only, and "
            f"is none of {', '.join(sorted(taken))}"
        )


def check_suite(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the suite `name`, is a Suite."""
    if not isinstance(found, Suite):
        raise InvalidEntry(
            f"suite {name!r} is no Suite but {found!r}: it must be an instance of bench.suites.base.Suite"
        )
    _require_name("suite", name)


def check_judges(world: World, concepts: Iterable[str]) -> None:
    """Raise InvalidEntry if a judge of some `concepts` of `world` has a name whose column would be another one."""
    taken = column_names.ENDS
    if wrong := [n for n in map(world.judge_of, concepts) if f"_{n}" in taken]:
        raise InvalidEntry(
            f"world {world.name!r} has a judge called {wrong[0]!r}; call it otherwise, since the column "
            f"'judge_{wrong[0]}' has another meaning"
        )


def _require_name(noun: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidEntry(f"{noun} {name!r}: a name begins with a letter or digit and goes on with these, _, + and -")


def _require_same(noun: str, name: str, own: str) -> None:
    if name != own:
        raise InvalidEntry(f"{noun} {name!r} has the name {own!r}: register it as {own!r}, or give it name={name!r}")


def _words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check_config(said: str, config: Any) -> None:
    """Raise InvalidEntry unless `config` is a frozen dataclass whose fields `--set` can set, and can be hashed."""
    if not (isinstance(config, type) and issubclass(config, MethodConfig)):
        raise InvalidEntry(f"{said}: Config is {config!r}; it must be a subclass of methods.base.MethodConfig")
    said = f"{said}: Config ({config.__name__})"
    if "__dataclass_fields__" not in vars(config):
        raise InvalidEntry(f"{said} is no dataclass of its own; it must be decorated with @dataclass(frozen=True)")
    for field in dataclasses.fields(config):
        _check_field(said, config, field)
    try:
        made = config()
        require_finite(made)
    except ValueError as error:
        raise InvalidEntry(f"{said} refuses its own defaults: {error}") from error
    try:
        hash(made)
    except TypeError as error:
        wrong = [f.name for f in dataclasses.fields(config) if not _hashable(getattr(made, f.name))]
        which = f"its fields {', '.join(wrong)} are not" if wrong else "its class has no __hash__"
        raise InvalidEntry(f"{said} must be hashable, and {which}: use a tuple in place of a list or dict") from error


def _check_field(said: str, config: type, field: dataclasses.Field[Any]) -> None:
    try:
        kind = get_type_hints(config)[field.name]
    except Exception as error:
        raise InvalidEntry(
            f"{said}: its annotations can't be read ({type(error).__name__}: {error}); they must be names that the "
            "module of the class has"
        ) from error
    if not is_settable(kind):
        shown = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__origin__") else kind
        raise InvalidEntry(
            f"{said}: its field {field.name!r} has the annotation {shown}, which --set can't set; use {SETTABLE}"
        )
    if not field.init:
        raise InvalidEntry(f"{said}: its field {field.name!r} has init=False, so --set can't set it; leave that out")
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        raise InvalidEntry(f"{said}: its field {field.name!r} has no default; every setting needs one")


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
