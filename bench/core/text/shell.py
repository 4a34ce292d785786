"""Command lines that a user can copy into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from bench.core.text.printable import OBEYED, printable


def quoted(word: str) -> str:
    """A word of a command line as one would type it in bash or zsh.

    >>> print(quoted("red rose"), quoted("a\\nb"))
    'red rose' $'a\\nb'
    """
    if printable(word) == word:
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{OBEYED.sub(lambda found: _escape(found.group()), text)}'"


def joined(words: Iterable[str]) -> str:
    """A command line that consists of `words`."""
    return " ".join(map(quoted, words))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code >= 0x80 else character.encode("unicode_escape").decode("ascii")
