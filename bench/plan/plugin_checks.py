"""Checks for mistakes in the methods, metrics and suites of plug-ins, before anything is computed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from bench.core.config import Protocol
from bench.core.overrides import convert, is_settable, require_finite
from bench.core.registry import nearest
from bench.plan import column_names
from bench.suites import Suite
from methods import METHODS, Method
from methods.base import FIDELITIES, MULTI, TAGS, MethodConfig
from metrics import METRICS, Metric
from metrics.base import NEEDS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
SETTABLE = "bool, int, float, str, Path, a Literal, a tuple of these, or one of these or None"
RESERVED = ("all", "protocol")  # --methods and --set accept these words besides names of methods


class InvalidEntry(ValueError):
    """A registered method, metric, world or suite cannot be used. The message has the reason and the correct form."""


def check_method(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the method `name`, can be run.

    `found` must be a subclass of Method with a valid name, `about`, `source`, `fidelity`, `multi` and `Config`.
    """
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InvalidEntry(f"method {name!r} is no Method but {found!r}: it must be a subclass of methods.base.Method")
    said = f"method {name!r} (class {found.__name__})"
    require_name("method", name)
    if name in RESERVED:
        raise InvalidEntry(f"{said}: the name {name!r} has another meaning on the command line; choose another name")
    if missing := [a for a in ("about", "source", "fidelity") if not is_text(getattr(found, a, None))]:
        raise InvalidEntry(f"{said} does not say its {', '.join(missing)}: each is a class attribute, a text")
    for attribute, known in (("fidelity", FIDELITIES), ("multi", MULTI)):
        if (value := getattr(found, attribute)) not in known:
            raise InvalidEntry(f"{said}: {attribute} is {value!r}; it must be one of {', '.join(known)}")
    tags = found.tags
    if isinstance(tags, str) or not isinstance(tags, Sequence) or (unknown := [tag for tag in tags if tag not in TAGS]):
        wrong = tags if isinstance(tags, str) or not isinstance(tags, Sequence) else unknown[0]
        raise InvalidEntry(f"{said}: tags has {wrong!r}; it must be a tuple of names among {', '.join(TAGS)}")
    _check_config(said, getattr(found, "Config", None))


def check_metric(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the metric `name`, can be measured.

    Its columns must not have the names of other columns.
    """
    if not isinstance(found, Metric):
        raise InvalidEntry(f"metric {name!r} is no Metric but {found!r}: it must be an instance of metrics.Metric")
    require_name("metric", name)
    require_same("metric", name, found.name)
    if isinstance(found.needs, str) or (unknown := [need for need in found.needs if need not in NEEDS]):
        wrong = repr(found.needs) if isinstance(found.needs, str) else ", ".join(map(repr, unknown))
        raise InvalidEntry(f"metric {name!r} needs {wrong}; needs is a tuple of names among {', '.join(NEEDS)}")
    for field, optional in (("compute", False), ("each", True)):
        value = getattr(found, field)
        if not (callable(value) or (optional and value is None)):
            raise InvalidEntry(f"metric {name!r}: {field} is {value!r}; it must be a function of the evidence")
    if other := column_names.collision(name, (one for one in METRICS.names() if one != name)):
        raise InvalidEntry(f"metric {name!r} collides with {other}: choose another name")


def check_suite(name: str, found: Any) -> None:
    """Raise InvalidEntry unless `found`, registered as the suite `name`, is a Suite whose settings exist.

    The check imports the methods that the suite has variants of.
    """
    if not isinstance(found, Suite):
        raise InvalidEntry(f"suite {name!r} is no Suite but {found!r}: it must be an instance of bench.suites.Suite")
    require_name("suite", name)
    require_same("suite", name, found.name)
    said = f"suite {name!r}"
    for field in ("about", "source"):
        if not is_text(value := getattr(found, field)):
            raise InvalidEntry(f"{said}: {field} is {value!r}; it must be a text that is not empty")
    if not isinstance(found.curve_reason, str):
        raise InvalidEntry(f'{said}: curve_reason is {found.curve_reason!r}; it must be a text, or "" for none')
    if not callable(found.choose):
        raise InvalidEntry(f"{said}: choose is {found.choose!r}; it must be a function of the world")
    if not (found.choose_requested is None or callable(found.choose_requested)):
        raise InvalidEntry(
            f"{said}: choose_requested is {found.choose_requested!r}; it must be a function of the world and the "
            "request, or None"
        )
    for field in ("all_styles", "takes_counts", "one_model"):
        if not isinstance(value := getattr(found, field), bool):
            raise InvalidEntry(f"{said}: {field} is {value!r}; it must be True or False")
    if found.takes_counts and found.choose_requested is None:
        raise InvalidEntry(f"{said}: takes_counts is True, but choose_requested is None; it must make those tasks")
    if not isinstance(found.curve, int) or isinstance(found.curve, bool):
        raise InvalidEntry(f"{said}: curve is {found.curve!r}; it must be a whole number of checkpoints, or 0")
    check_settings(said, "protocol", Protocol, found.protocol)
    check_settings(said, "training", MethodConfig, found.training)
    _check_variants(said, found.variants)


def _check_variants(said: str, variants: Any) -> None:
    """Raise InvalidEntry unless `variants` maps names of methods to sequences of valid settings of these methods."""
    if not isinstance(variants, Mapping):
        raise InvalidEntry(f"{said}: variants is {variants!r}; it must map names of methods to sequences of settings")
    for method, rows in variants.items():
        label = f"variants[{method!r}]"
        if method not in METHODS:
            raise InvalidEntry(f"{said}: {label}: no method has this name; {nearest(str(method), METHODS.names())}")
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise InvalidEntry(f"{said}: {label} is {rows!r}; it must be a sequence of settings, one for each row")
        for i, values in enumerate(rows):
            check_settings(said, f"{label}[{i}]", METHODS.get(method).Config, values)


def check_settings(said: str, label: str, config: type, values: Any) -> None:
    """Raise InvalidEntry unless `values` maps fields of the dataclass `config` to values of the fields' types."""
    if not isinstance(values, Mapping):
        raise InvalidEntry(f"{said}: {label} is {values!r}; it must map fields of {config.__name__} to values")
    hints, fields = get_type_hints(config), [field.name for field in dataclasses.fields(config)]
    for field, value in values.items():
        if field not in fields:
            raise InvalidEntry(f"{said}: {label} has no field {field!r}: {nearest(str(field), fields)}")
        try:
            convert(value, hints[field], f"{label}.{field}")
        except ValueError as error:
            raise InvalidEntry(f"{said}: {error}") from error


def require_name(noun: str, name: str) -> None:
    """Raise InvalidEntry unless `name` can be a name on the command line."""
    if not NAME.fullmatch(name):
        raise InvalidEntry(f"{noun} {name!r}: a name begins with a letter or digit and goes on with these, _, + and -")


def require_same(noun: str, name: str, own: str) -> None:
    """Raise InvalidEntry unless an entry is registered under its own name."""
    if name != own:
        raise InvalidEntry(f"{noun} {name!r} has the name {own!r}: register it as {own!r}, or give it name={name!r}")


def is_text(value: Any) -> bool:
    """Whether `value` is a text that is not empty and not only white space."""
    return isinstance(value, str) and bool(value.strip())


def _check_config(said: str, config: Any) -> None:
    """Raise InvalidEntry unless `config` is a dataclass of its own whose fields `--set` can set.

    Every field needs a default, and an instance with the defaults must be valid and hashable.
    """
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
