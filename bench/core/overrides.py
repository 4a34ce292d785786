"""`--set SECTION.FIELD=VALUE`: overrides the fields of frozen dataclasses and checks their names and types."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bench.core.registry import nearest

C = TypeVar("C")
Sweep = dict[str, dict[str, tuple[str, ...]]]  # section -> field -> values as typed
Overrides = dict[str, dict[str, str]]  # section -> field -> value as typed
NOT_FINITE = ("nan", "inf", "infinity", ".nan", ".inf")  # also as YAML writes them


def parse(
    items: Iterable[str], flag: str = "--set", form: str = "SECTION.FIELD=VALUE, e.g. mimmu.lr=1e-5"
) -> Overrides:
    """Split items "section.field=value".

    Args:
        items: the words of a flag.
        flag: name of the flag, for error messages.
        form: the expected form of an item, for error messages.

    Raises ValueError for an item of another form, and for a field that is set twice.
    """
    parsed: Overrides = {}
    for item in items:
        target, equals, text = item.partition("=")
        section, dot, name = target.partition(".")
        if not (equals and dot and name):
            raise ValueError(f"{flag} takes {form}, not {item!r}")
        if name in parsed.setdefault(section, {}):
            raise ValueError(f"{flag} {target} is given twice")
        parsed[section][name] = text
    return parsed


def write(overrides: Overrides) -> tuple[str, ...]:
    """The items that `parse` splits into `overrides`.

    >>> write({"mimmu": {"lr": "1e-4"}})
    ('mimmu.lr=1e-4',)
    """
    return tuple(f"{section}.{name}={text}" for section, texts in overrides.items() for name, text in texts.items())


def parse_sweep(items: Iterable[str]) -> Sweep:
    """Split items "section.field=v1,v2". A comma within brackets is part of a value.

    Raises ValueError like `parse`, and for a value that is given twice.
    """
    parsed = parse(items, "--sweep", "METHOD.FIELD=V1,V2, e.g. mimmu.t_max=300,600,950")
    sweep = {
        section: {name: tuple(v.strip() for v in re.split(r",(?![^(\[]*[)\]])", text)) for name, text in texts.items()}
        for section, texts in parsed.items()
    }
    for section, fields in sweep.items():
        for name, values in fields.items():
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ValueError(f"--sweep {section}.{name} names {twice[0]!r} twice; each value is a row of its own")
    return sweep


def write_sweep(sweep: Sweep) -> tuple[str, ...]:
    """The items that `parse_sweep` splits into `sweep`."""
    return tuple(f"{n}.{key}={','.join(values)}" for n, fields in sweep.items() for key, values in fields.items())


def grid(fields: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], ...]:
    """Every combination of the values of `fields`."""
    return tuple(dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values()))


def apply(config: C, values: Mapping[str, Any], section: str) -> C:
    """A copy of the dataclass `config` with other values.

    Each tuple in the class attribute `ALTERNATIVES` names fields of which only one may be set. If `values` sets one of
    them, the others become None.

    Args:
        config: an instance of a dataclass.
        values: field name -> value, either the text as typed or a value of the field's type.
        section: name of `config` in error messages.

    Raises ValueError for an unknown field, for a value of the wrong type, and for a value that the class refuses.
    """
    hints = get_type_hints(type(config))
    fields = [f.name for f in dataclasses.fields(config)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{section} has no setting {name!r}: {nearest(name, fields)}")
        changes[name] = convert(value, hints[name], f"{section}.{name}")
    for names in getattr(config, "ALTERNATIVES", ()):
        if sum(changes.get(name) is not None for name in names) == 1:
            changes |= {name: None for name in names if name not in changes}
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error


def convert(value: Any, kind: Any, label: str) -> Any:
    """`value` as an instance of the annotation `kind`.

    Args:
        value: the text as typed, or a value of the right type.
        kind: an annotation that `is_settable` accepts.
        label: the beginning of error messages.

    Raises ValueError for a value of another type, and for a number that is infinite or NaN.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value in (None, "None", "none"):
            return None
        (kind,) = (k for k in get_args(kind) if k is not type(None))
        return convert(value, kind, label)
    if origin is Literal:
        return _choice(value, get_args(kind), label)
    if kind is str:
        return str(value)
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value).expanduser()
    if isinstance(value, str):
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all errors of literal_eval
            if kind is float and value.strip().lower().lstrip("+-") in NOT_FINITE:
                raise ValueError(f"{label} must be a finite number, not {value}") from None
            raise ValueError(f"{label} takes {_name(kind)}, not {value!r}") from None
    if origin is tuple and isinstance(value, (tuple, list)):
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(value) if len(kinds) == 2 and kinds[1] is Ellipsis else kinds
        if len(kinds) == len(value):
            return tuple(convert(v, k, label) for v, k in zip(value, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{label} must be a finite number, not {value}")
        return value
    raise ValueError(f"{label} takes {_name(kind)}, not {value!r}")


def _choice(value: Any, choices: Sequence[Any], label: str) -> Any:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    if isinstance(value, str):  # as typed
        for choice in choices:
            if value == str(choice) or (isinstance(choice, bool | None) and value == str(choice).lower()):
                return choice
    raise ValueError(f"{label} takes one of {', '.join(map(str, choices))}, not {value!r}")


def is_settable(kind: Any) -> bool:
    """Whether `convert` can turn a text into `kind`.

    It can for bool, int, float, str, Path, a Literal, and a tuple of these, each with or without "| None".
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        rest = [part for part in parts if part is not type(None)]
        return len(rest) == 1 and is_settable(rest[0])
    if origin is tuple:
        return bool(parts) and all(part is Ellipsis or is_settable(part) for part in parts)
    return origin is Literal or kind in (bool, int, float, str, Path)


def require_finite(config: object) -> None:
    """Raise ValueError if a field of the dataclass `config` is infinite or NaN, or contains such a number.

    Tuples, lists, sets and mappings are searched for numbers too.
    """
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        for value in _numbers(getattr(config, field.name)):
            if not math.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number, not {value}")


def require_at_least(config: object, least: int, *names: str) -> None:
    """Raise ValueError if one of the fields `names` of `config` is less than `least`. A field may be None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        yield from itertools.chain.from_iterable(map(_numbers, value.values()))
    elif isinstance(value, (tuple, list, set, frozenset)):
        yield from itertools.chain.from_iterable(map(_numbers, value))


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
