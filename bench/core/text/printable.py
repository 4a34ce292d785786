"""Texts with the names of users in them, in a form that a terminal or a page only shows.

A name may contain any character. A terminal obeys some of them: an escape character begins a command, and a line break
or a change of the writing direction rearranges the text around the name. `printable` writes these characters as escape
sequences, as Python does. `encodable` does the same with characters that the encoding of a terminal lacks.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

# C0 and C1 controls, separators of lines and paragraphs, bidirectional embeddings, overrides and isolates, surrogates
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
OBEYED_IN_LINES = re.compile(OBEYED.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
# Typographic characters that Lethe's own texts and rich's tables use -> ASCII of the same width
IN_ASCII = {"↑": "^", "↓": "v", "·": "-", "–": "-", "…": "~", "“": '"', "”": '"', "×": "x"}
ERRORS = "lethe.encodable"  # name of the error handler for streams
C_LOCALES = ("C", "POSIX")


def printable(text: str) -> str:
    """`text` with escape sequences in place of characters that a terminal would obey.

    >>> print(printable("a\\x1b[31mb\\nc"), printable("熊猫 \\\\ [red]"))
    a\\x1b[31mb\\nc 熊猫 \\ [red]
    """
    return OBEYED.sub(_escape, text)


def printable_lines(text: str) -> str:
    """`printable`, except that line breaks stay. For messages of several lines."""
    return OBEYED_IN_LINES.sub(_escape, text)


def encodable(text: str, encoding: str) -> str:
    """`text` without characters that `encoding` lacks: ASCII of the same meaning, or an escape sequence.

    >>> encodable("UA ↑ 狮子", "ascii")
    'UA ^ \\\\u72ee\\\\u5b50'
    """
    return text.encode(encoding, ERRORS).decode(encoding)


def takes_ascii_alone(environment: Mapping[str, str]) -> bool:
    """Whether the environment describes a terminal that takes ASCII alone: TERM=dumb, or the locale C or POSIX.

    PYTHONIOENCODING and PYTHONUTF8 win over both. A locale that is not set says nothing.
    """
    if environment.get("PYTHONIOENCODING") or environment.get("PYTHONUTF8"):
        return False
    if environment.get("TERM") == "dumb":
        return True
    # Python itself sets LC_CTYPE to C.UTF-8 if LANG is C
    kind = environment.get("LC_CTYPE", "").replace("C.UTF-8", "")
    return (environment.get("LC_ALL") or kind or environment.get("LANG", "")) in C_LOCALES


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler called `ERRORS`."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(IN_ASCII.get(one) or one.encode("unicode_escape").decode("ascii") for one in lacking), error.end


codecs.register_error(ERRORS, _replace)
