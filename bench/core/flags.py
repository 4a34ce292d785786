"""Command-line flags that are declared once, in the metadata of a dataclass's fields.

Whatever has to know every flag is a loop over `flags_of`: the parser, the command that describes a run, the command
that other people may read, the identity of a run, and the name of its board.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.core.filenames import last_part, without_folders

T = TypeVar("T")
KEY = "flag"  # of a field's metadata


def as_words(value: Any) -> tuple[str, ...]:
    """A value as it is typed: the elements of a tuple, or one word."""
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def without_any_folder(value: Any) -> Any:
    """A copy of a flag's value in which names of files stand in place of paths."""
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, Path):
        return Path(last_part(str(value)))
    if isinstance(value, tuple):
        return tuple(map(without_any_folder, value))
    if isinstance(value, Mapping):
        return {name: without_any_folder(each) for name, each in value.items()}
    return value


@dataclass(frozen=True)
class Flag:
    """How a field is given on the command line.

    Args:
        help: what the flag does, for people. Names in braces are filled in by the parser, `{default}` among them.
        group: title of the group in `--help`.
        name: without the two hyphens; empty for the field's name with hyphens for underscores.
        metavar: what `--help` calls the value.
        choices: all values that there are; None for any.
        switch: whether the flag takes no word and means True, as `--no-...` means False.
        many: whether the flag takes several words, and may be repeated to add more.
        parse: one word -> value. Raises ValueError.
        gather: all parsed words of a flag with `many` -> the field's value. Raises ValueError.
        write: the field's value -> words that `parse` and `gather` turn into it.
        mapping: whether the value is a mapping. In a run file it may be written as one.
        ranges: whether a list within that mapping is several values, in place of one value that is a list.
        joined: how a list in a run file becomes the one word of a flag without `many`; None where it takes no list.
        identity: whether another value makes another run; False for what changes no result.
        elsewhere: the field's value -> the same value for a process on another host or in another folder.
        shared: the field's value -> the same value as other people may read it; None leaves the flag out of a command
            that is shared.
        board: place in the name of the board, which begins with place 1; None where the value makes no other board.
    """

    help: str
    group: str
    name: str = ""
    metavar: str | None = None
    choices: Sequence[str] | None = None
    switch: bool = False
    many: bool = False
    parse: Callable[[str], Any] = str
    gather: Callable[[Sequence[Any]], Any] = tuple
    write: Callable[[Any], Sequence[str]] = as_words
    mapping: bool = False
    ranges: bool = False
    joined: Callable[[Sequence[str]], str] | None = None
    identity: bool = True
    elsewhere: Callable[[Any], Any] = lambda value: value
    shared: Callable[[Any], Any] | None = without_any_folder
    board: int | None = None

    @property
    def option(self) -> str:
        """The flag as it is typed."""
        return f"--{self.name}"


def flag(default: T, help: str, group: str, **declared: Any) -> T:
    """A dataclass field with a default and a `Flag`, whose arguments are `declared`. A mapping is copied."""
    metadata = {KEY: Flag(help, group, mapping=isinstance(default, dict), **declared)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)  # type: ignore[return-value]
    return dataclasses.field(default=default, metadata=metadata)  # type: ignore[return-value]


def flags_of(cls: type) -> dict[str, Flag]:
    """Field -> flag, in the order of the fields, of every field of the dataclass `cls` that has one."""
    return {
        one.name: dataclasses.replace(one.metadata[KEY], name=one.metadata[KEY].name or one.name.replace("_", "-"))
        for one in dataclasses.fields(cls)
        if KEY in one.metadata
    }


def defaults_of(cls: type) -> dict[str, Any]:
    """Field -> default, of every field of the dataclass `cls` that has a flag."""
    known = flags_of(cls)
    return {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in dataclasses.fields(cls)
        if one.name in known
    }


def from_values(cls: type[T], values: Mapping[str, Any]) -> T:
    """A `cls` from parsed words by field; what is missing has its default. Raises ValueError."""
    given = {name: flag for name, flag in flags_of(cls).items() if name in values}
    return cls(**{name: flag.gather(values[name]) if flag.many else values[name] for name, flag in given.items()})


def words_of(of: Any, always: Sequence[str] = ()) -> list[str]:
    """The shortest list of words that describes the dataclass `of`: flags that differ from their default.

    Args:
        always: fields that are written even where they have their default.
    """
    defaults, words = defaults_of(type(of)), []
    for name, one in flags_of(type(of)).items():
        value = getattr(of, name)
        if value == defaults[name] and name not in always:
            continue
        if one.switch:
            words.append(one.option if value else f"--no-{one.name}")
        else:
            words += [one.option, *one.write(value)]
    return words
