"""`--set SECTION.FIELD=VALUE`: typed overrides of frozen dataclasses, strict about names and types."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bench.registry import nearest

C = TypeVar("C")
Sweep = dict[str, dict[str, tuple[str, ...]]]  # section -> field -> texts
Overrides = dict[str, dict[str, str]]  # section -> field -> text as typed


def parse(
    items: Iterable[str],
    sections: Iterable[str],
    flag: str = "--set",
    form: str = "SECTION.FIELD=VALUE, e.g. mimmu.lr=1e-5",
) -> Overrides:
    """Split "section.field=value" items of `flag`, which takes them in this `form`.

    Raises ValueError for an item without that form, a section not in `sections`, or a field set twice.
    """
    known, parsed = tuple(sections), {}  # type: ignore[var-annotated]
    for item in items:
        target, equals, text = item.partition("=")
        section, dot, name = target.partition(".")
        if not (equals and dot and name):
            raise ValueError(f"{flag} takes {form}, not {item!r}")
        if section not in known:
            raise ValueError(f"{flag} {item}: nothing called {section!r} in this run; {nearest(section, known)}")
        if name in parsed.setdefault(section, {}):
            raise ValueError(f"{flag} {target} is given twice")
        parsed[section][name] = text
    return parsed


def parse_sweep(items: Iterable[str], sections: Iterable[str]) -> Sweep:
    """Split "section.field=v1,v2" items; commas within brackets are part of a value.

    Raises ValueError as `parse`, and for a value that is given twice.
    """
    parsed = parse(items, sections, "--sweep", "METHOD.FIELD=V1,V2, e.g. mimmu.t_max=300,600,950")
    found = {
        section: {name: tuple(v.strip() for v in re.split(r",(?![^(\[]*[)\]])", text)) for name, text in texts.items()}
        for section, texts in parsed.items()
    }
    for section, fields in found.items():
        for name, values in fields.items():
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ValueError(f"--sweep {section}.{name} names {twice[0]!r} twice; each value is a row of its own")
    return found


def grid(fields: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], ...]:
    """Every combination of the values of `fields`."""
    return tuple(dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values()))


def apply(config: C, values: Mapping[str, Any], section: str) -> C:
    """A copy of the dataclass `config` with `values` (texts as typed, or values of the right type) put in.

    Where the class names fields of which only one is ever set, in tuples of its `ALTERNATIVES`, setting one alone makes
    the others none. Raises ValueError for an unknown field, naming the nearest one, for a value of the wrong type, and
    with the section before it for whatever the class itself refuses.
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
    """`value` as an instance of the annotation `kind`: bool, int, float, str, tuple[...] or an optional of these."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value in (None, "None", "none"):
            return None
        (kind,) = (k for k in get_args(kind) if k is not type(None))
        return convert(value, kind, label)
    if kind is str:
        return str(value)
    if isinstance(value, str):
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError):
            raise ValueError(f"{label} takes {_name(kind)}, not {value!r}") from None
    if origin is tuple and isinstance(value, (tuple, list)):
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(value) if len(kinds) == 2 and kinds[1] is Ellipsis else kinds
        if len(kinds) == len(value):
            return tuple(convert(v, k, label) for v, k in zip(value, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{label} takes {_name(kind)}, not {value!r}")


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
