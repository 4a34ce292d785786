"""Command-line flags that are declared once, in the metadata of a dataclass's fields.

Several parts of the program use every flag: the parser, the command that describes a run, the command for other
people, the identity of a run, and the name of its board. Each of them is a loop over `flags_of`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.core.filenames import last_part, without_folders

T = TypeVar("T")
KEY = "flag"  # name in a field's metadata


def as_words(value: Any) -> tuple[str, ...]:
    """The words that a user types for a value: one for each element of a tuple, otherwise one."""
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def without_any_folder(value: Any) -> Any:
    """A copy of a flag's value with file names instead of paths."""
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
    """The command-line flag of a field.

    Args:
        help: description of the flag for `--help`. The parser fills in names in braces, such as `{default}`.
        group: title of the flag's group in `--help`.
        name: name without the two hyphens; if empty, the field's name with hyphens instead of underscores.
        metavar: name of the value in `--help`.
        choices: all allowed values; None allows every value.
        switch: whether the flag takes no word: `--NAME` means True, and `--no-NAME` means False.
        many: whether the flag takes several words, and may be repeated to add more words.
        parse: one word -> value. Raises ValueError for a word that it does not accept.
        gather: all parsed words of a flag with `many` -> the field's value. Raises ValueError like `parse`.
        write: the field's value -> words from which `parse` and `gather` make the same value.
        mapping: whether the value is a mapping. A run file may write it as a mapping.
        ranges: whether a list within that mapping means several values; otherwise it means one value that is a list.
        joined: how a list in a run file becomes the one word of a flag without `many`; None if a list is not allowed.
        identity: whether another value means another run; False if the flag does not change the results.
        elsewhere: the field's value -> the same value for a process on another host or in another folder.
        shared: the field's value -> the same value for other people to read; None leaves the flag out of a command
            for other people.
        board: position of the flag in the name of the board, from 1; None if the name does not contain the flag.
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
        """The flag as a user types it."""
        return f"--{self.name}"


def flag(default: T, help: str, group: str, **declared: Any) -> T:
    """A dataclass field with a default and a `Flag` with the arguments `declared`. A default mapping is copied."""
    metadata = {KEY: Flag(help, group, mapping=isinstance(default, dict), **declared)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)  # type: ignore[return-value]
    return dataclasses.field(default=default, metadata=metadata)  # type: ignore[return-value]


def flags_of(cls: type) -> dict[str, Flag]:
    """Field name -> flag, for every field of the dataclass `cls` that has a flag, in the order of the fields."""
    return {
        one.name: dataclasses.replace(one.metadata[KEY], name=one.metadata[KEY].name or one.name.replace("_", "-"))
        for one in dataclasses.fields(cls)
        if KEY in one.metadata
    }


def defaults_of(cls: type) -> dict[str, Any]:
    """Field name -> default, for every field of the dataclass `cls` that has a flag."""
    known = flags_of(cls)
    return {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in dataclasses.fields(cls)
        if one.name in known
    }


def from_values(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of `cls` from parsed words by field name. Missing fields have their default.

    Raises ValueError for a value that the flag or the class does not accept.
    """
    given = {name: flag for name, flag in flags_of(cls).items() if name in values}
    return cls(**{name: flag.gather(values[name]) if flag.many else values[name] for name, flag in given.items()})


def words_of(of: Any, always: Sequence[str] = ()) -> list[str]:
    """The shortest list of words that describes the dataclass instance `of`: every flag that is not at its default.

    Args:
        of: an instance of a dataclass with flags.
        always: names of fields that are written even if they have their default.
    """
    defaults, words = defaults_of(type(of)), []
    for name, one in flags_of(type(of)).items():
        value = getattr(of, name)
        if value == defaults[name] and name not in always:
            continue
        if one.switch:
            words.append(one.option if value else f"--no-{one.name}")
        else:
            written = one.write(value)
            # the parser would take a word that begins with a hyphen for a flag
            hyphen = any(word.startswith("-") for word in written)
            words += [f"{one.option}={word}" for word in written] if hyphen else [one.option, *written]
    return words
