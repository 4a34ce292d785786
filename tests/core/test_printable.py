"""Names reach a terminal as text: nothing in them is a command, markup, or more than the encoding has."""

import doctest
import io
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from support.awkward_names import ANY_NAME, NAMES

from bench.core.text import printable, shell
from bench.core.text.printable import ERRORS, encodable, takes_ascii_alone
from bench.core.text.shell import joined
from bench.core.text.terminal import Plain, say

ENCODINGS = ("utf-8", "ascii", "latin-1", "cp1252")


def printed(*renderables: object, encoding: str = "utf-8", width: int = 2000) -> str:
    """What a terminal of this encoding gets, without rich's own control sequences."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ERRORS, newline="")
    console = Console(file=stream, width=width)
    for one in renderables:
        console.print(one)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_examples_in_documentation_hold() -> None:
    assert doctest.testmod(printable).failed == 0
    assert doctest.testmod(shell).failed == 0


@given(st.text())
@settings(max_examples=60)
def test_printable_text_obeys_nothing_and_says_which_characters_were_there(text: str) -> None:
    shown = printable.printable(text)
    assert not printable.OBEYED.search(shown)
    assert printable.printable(shown) == shown
    if shown.isascii() and "\\" not in text:
        assert shown.encode().decode("unicode_escape") == text


@given(ANY_NAME, st.sampled_from(ENCODINGS))
@settings(max_examples=80)
def test_console_prints_name_and_nothing_else(name: str, encoding: str) -> None:
    expected = encodable(printable.printable(name), encoding)
    assert printed(Plain(name), encoding=encoding) == f"{expected}\n"


@given(st.lists(ANY_NAME, min_size=1, max_size=3), st.sampled_from(ENCODINGS))
@settings(max_examples=40)
def test_table_shows_names_whole_in_any_width(names: list[str], encoding: str) -> None:
    table = Table(title=None, box=None, show_edge=False, pad_edge=False)
    table.add_column(Plain(names[0]), overflow="fold")
    for name in names:
        table.add_row(Plain(name))
    shown = printed(table, encoding=encoding, width=23)
    expected = "".join(encodable(printable.printable(name), encoding) for name in (names[0], *names))
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", expected)


@pytest.mark.parametrize("name", NAMES)
def test_message_is_one_line_unless_it_breaks_its_lines(name: str) -> None:
    stream = io.StringIO()
    say(Console(file=stream, width=20), ("error:", "red"), f" {printable.printable(name)} is unknown\nand more")
    assert stream.getvalue() == f"error: {printable.printable(name)} is unknown\nand more\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash is installed")
def test_shell_reads_words_as_they_were() -> None:
    words = [*NAMES, "", "$HOME", "\\n", "a\\\x1bb'c"]
    line = joined(words)
    assert printable.printable(line) == line
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    assert (
        subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode().split("\0")[:-1]
        == words
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python itself sets it
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "C.UTF-8", "TERM": "xterm"}, False),
        ({"LANG": "C.UTF-8", "TERM": "dumb"}, True),
        ({"LANG": "C", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LANG": "C", "PYTHONUTF8": "1"}, False),
    ],
)
def test_terminals_that_take_ascii_alone_are_known(environment: dict, expected: bool) -> None:
    assert takes_ascii_alone(environment) is expected
