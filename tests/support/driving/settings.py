"""Every switch of a method, read from its configuration, and few settings that have each value at least once."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Settings = dict[str, Any]
NO_NAME = "no such name"
TRIED = (2, 0.5, 1.0)  # values for a number that is None by default; the first one that is allowed counts
# numbers at which a training takes another path than at their default
NUMBERS: Mapping[str, Any] = {"grad_accumulation": 2, "path_batch": 2, "weight_decay": 0.1}

# values that a training refuses together: the projection holds weights of cross-attention
REFUSED: Mapping[str, Any] = {"regulariser": "projection", "parameters": "not-attn2"}


class UncoveredSwitch(AssertionError):
    """A setting takes words, and does not say which."""


def values(config: type) -> dict[str, tuple[Any, ...]]:
    """Field -> the values that take another path through the code, for the fields of a method's configuration.

    These are both values of a bool, the known words of a text, None and a number for a number that may be None, and
    NUMBERS. The words of a text come from the error for a word that is unknown (`bench.training.method.require_known`).

    Raises UncoveredSwitch for a text that takes any word: its words could not be driven.
    """
    hints, found = typing.get_type_hints(config), {}
    for field in dataclasses.fields(config):
        default, kinds = getattr(config(), field.name), _kinds(hints[field.name])
        if bool in kinds:
            found[field.name] = (False, True)
        elif str in kinds:
            found[field.name] = (*((None,) if default is None else ()), *_words(config, field.name))
        elif default is None and kinds & {int, float}:
            allowed = [value for value in TRIED if is_allowed(config, {field.name: value})]
            found[field.name] = (None, *allowed[:1])
        elif field.name in NUMBERS and is_allowed(config, {field.name: NUMBERS[field.name]}):
            found[field.name] = (default, NUMBERS[field.name])
    return found


def combinations(config: type, fields: Callable[[str], bool] = lambda name: True) -> Iterator[Settings]:
    """Few settings of a configuration that together have every value of `values` that is not the default.

    Each settings has as many values that were not there before as go together.

    Args:
        fields: which fields to vary.

    Raises UncoveredSwitch like `values`, and for a value that is refused whatever one other field is.
    """
    usual = config()
    left = [
        (name, value)
        for name, each in values(config).items()
        for value in each
        if fields(name) and value != getattr(usual, name)
    ]
    while left:
        settings: Settings = {}
        for name, value in sorted(left, key=lambda pair: pair[0] != "parameters"):  # REFUSED depends on it
            if name not in settings and is_allowed(config, {**settings, name: value}):
                settings[name] = value
        settings = settings or _with_another(config, *left[0])
        left = [pair for pair in left if pair not in [*settings.items()]]
        yield settings


def _with_another(config: type, name: str, value: Any) -> Settings:
    """A value that is refused at the other defaults, and a value of another field with which it is not."""
    for other, each in values(config).items():
        for one in each:
            if other != name and is_allowed(config, {name: value, other: one}):
                return {name: value, other: one}
    raise UncoveredSwitch(f"{config.__name__} refuses {name}={value!r} whatever one other field is")


def is_allowed(config: type, settings: Settings) -> bool:
    """Whether a configuration takes these settings together."""
    try:
        made = dataclasses.replace(config(), **settings)
    except (ValueError, TypeError):
        return False
    return any(getattr(made, name) != value for name, value in REFUSED.items())


def _words(config: type, name: str) -> tuple[str, ...]:
    try:
        dataclasses.replace(config(), **{name: NO_NAME})
    except ValueError as error:
        _, _, known = str(error).partition("known: ")
        if known:
            return tuple(known.split(", "))
    raise UncoveredSwitch(f"{config.__name__}.{name} takes words and does not name them: check it with require_known")


def _kinds(hint: Any) -> set[Any]:
    """The types that an annotation allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return {*typing.get_args(hint)}
    return {hint}
