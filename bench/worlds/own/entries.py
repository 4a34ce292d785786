"""Reads the entries of a YAML file with concepts, and says which entry is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.core.registry import nearest
from bench.core.text.unique_names import UniqueNames


class WrongConcepts(ValueError):
    """A file with concepts can't be used. The message has the file, what is wrong, and what would be right."""


def text_of(file: Path) -> str:
    """The text of the file. Raises WrongConcepts for a file that can't be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WrongConcepts(f"--concepts {file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise WrongConcepts(f"--concepts {file}: not a text file in UTF-8") from None


def load(file: Path, text: str) -> dict[Any, Any]:
    """The entries in the `text` of a YAML file. Raises WrongConcepts for a text that is no mapping in YAML."""
    try:
        found = yaml.load(text, Loader=UniqueNames)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise WrongConcepts(f"--concepts {file}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(found, dict):
        raise WrongConcepts(
            f"--concepts {file}: it must have lines of the form `name: value`, e.g. `domains: {{fruit: [apple, pear]}}`"
        )
    return found


class Entries:
    """Entries of the file by name, with messages that name the file and the entry.

    Args:
        file: the YAML file. Paths in it are relative to its folder.
        values: name -> value, as YAML reads them.
        known: the names that may be there.
        within: the entry that these entries belong to, for messages; "" for the file itself.

    Raises WrongConcepts for an unknown name.
    """

    def __init__(self, file: Path, values: Mapping[Any, Any], known: Collection[str], within: str = "") -> None:
        self.file, self.values, self.within = file, values, within
        for name in values:
            if name not in known:
                raise self.wrong(name, f"unknown; {nearest(str(name), known)}")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def wrong(self, name: Any, reason: str) -> WrongConcepts:
        """The error for an entry. `reason` follows the name of the entry."""
        return WrongConcepts(f"--concepts {self.file}: {self.within + ': ' if self.within else ''}{name}: {reason}")

    def mapping(self, name: str) -> Mapping[Any, Any]:
        """The mapping in an entry; empty if there is no such entry."""
        value = self.values.get(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"must be a mapping, name: value, not {value!r}")
        return value

    def text(self, name: str) -> str | None:
        """The text in an entry; None if there is no such entry."""
        value = self.values.get(name)
        if name in self.values and (not isinstance(value, str) or not value.strip()):
            raise self.wrong(name, f"must be a text, not {value!r}{_in_quotes(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts in an entry: a list, or a single text; () if there is no such entry."""
        value = self.values.get(name, ())
        return () if name not in self.values else self.as_texts(name, value)

    def as_texts(self, name: str, value: Any) -> tuple[str, ...]:
        """`value`, a list of texts or a single text, as a tuple. `name` is for messages."""
        found = (value,) if isinstance(value, str) else value
        if not isinstance(found, (list, tuple)) or not found:
            raise self.wrong(name, f"must be a list of texts, not {value!r}{_in_quotes(value)}")
        if wrong := [one for one in found if not isinstance(one, str) or not one.strip()]:
            raise self.wrong(name, f"must have texts only, not {wrong[0]!r}{_in_quotes(wrong[0])}")
        return tuple(found)

    def path(self, text: str) -> Path:
        """A path in the file: relative to the folder of the file, and "~" is the user's home folder."""
        return (self.file.parent / Path(text).expanduser()).resolve()


def _in_quotes(value: Any) -> str:
    """What to do about a word that YAML reads as another type than text."""
    if value is None or isinstance(value, (list, dict)):
        return ""
    return "; YAML takes a word such as no, on or 1890 for another type unless it is in quotes"
