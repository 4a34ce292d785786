"""Every report shows the names of users as they are, and reads nothing in them as markup."""

import doctest
import io
import json
from html.parser import HTMLParser

import pandas as pd
from hypothesis import example, given, settings
from markdown_it import MarkdownIt
from rich.console import Console
from support.awkward_names import ANY_NAME

from bench.core.text.printable import ERRORS, encodable, printable
from bench.report import markdown, terminal
from bench.report.charts import colours, figures, sequences
from bench.report.page import document

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
LOOK = {"mimmu": colours.looks(["mimmu"])["mimmu"]}


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def board(method: str) -> pd.DataFrame:
    row = {"method": method, "fidelity": "reconstruction", "status": "ok", "rank": 1, "seconds": 1.0, "cells": 1}
    row |= {f"ua{end}": 50.0 for end in ("", "_lo", "_hi")} | {"ua_n": 4}
    row |= {"compensation": method, "fid_extractor": "x", "judge": 99.0, "judge_n": 4, f"judge_{method}": 5.0}
    return pd.DataFrame([{**row, "protocol": "full", "fingerprint": "f"}])


def in_terminal(board: pd.DataFrame, encoding: str) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors=ERRORS, newline="")
    console = Console(file=stream, width=3000)
    console.print(terminal.show(board, ("ua",), "title", console.width, encoding=encoding))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding).split("\n")  # type: ignore[attr-defined]


def test_examples_in_documentation_hold() -> None:
    assert doctest.testmod(markdown).failed == 0


@given(ANY_NAME)
@settings(max_examples=150)
@example("www.example.org")
@example("![a](b)")
def test_markdown_cell_reads_as_name_and_nothing_else(name: str) -> None:
    table = "\n".join(map(markdown.line, (["a", "b"], ["---", "---"], [markdown.escaped(name), "end"])))
    cells = [token for token in MARKDOWN.parse(table) if token.type == "inline"]
    assert [cell.content for cell in (*cells[:2], cells[-1])] == ["a", "b", "end"]
    assert {child.type for child in cells[2].children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in cells[2].children or ()) == printable(name)


@given(ANY_NAME)
@settings(max_examples=20)
def test_board_shows_name_in_markdown_and_terminal(name: str) -> None:
    tokens = MARKDOWN.parse(markdown.table(board(name), ("ua",), "title"))
    assert {token.tag for token in tokens} <= {"", "p", "table", "thead", "tbody", "tr", "th", "td"}
    for encoding in ("utf-8", "ascii"):
        shown = encodable(printable(name), encoding)
        lines = in_terminal(board(name), encoding)
        assert any(line.count(shown) >= 2 for line in lines) or len(shown) > 200  # a longer name is folded
        assert len(lines) == len(in_terminal(board("x"), encoding)) or len(shown) > 200


@given(ANY_NAME)
@settings(max_examples=150)
def test_page_has_name_as_text_and_attribute_and_data(name: str) -> None:
    template = '<b data-x="{{ x }}">{{ x }}</b><script type="application/json">{{ data | tojson }}</script>'
    page = document.environment().from_string(template).render(x=name, data=document.only_printable({"x": name}))
    found = Reader(page)
    assert [tag for tag, _ in found.elements] == ["b", "script"]
    assert found.elements[0][1] == {"data-x": printable(name)}
    shown, _, data = page.partition("</b>")
    assert Reader(shown).text == printable(name)
    assert json.loads(data.removeprefix('<script type="application/json">').removesuffix("</script>"))["x"] == (
        printable(name)
    )


@given(ANY_NAME)
@settings(max_examples=40)
@example("$about")
@example("$concepts")
def test_charts_have_name_as_data_alone(name: str) -> None:
    other = f"{name} too"
    row = {"method": "mimmu", "task": name, "concept": other, "drop": 1.0, "accuracy": 5.0, "before": 6.0}
    targets = pd.DataFrame([{"task": name, "concept": name}])
    groups = {name: "a", other: "b"}
    panels = figures.heat(pd.DataFrame([row]), targets, [name], [name, other], groups, LOOK)
    spec = panels.panels["mimmu"].specs[""]
    scales = [layer["encoding"][axis]["scale"]["domain"] for layer in spec["layer"][:1] for axis in ("x", "y")]
    assert scales == [[name, other], [name]]
    step = {"method": "mimmu", "chain": "c", "seed": 0, "step": 1, "request": name, "concept": name, "since": 1}
    matrix = sequences.matrix(pd.DataFrame([{**step, "ua": 50.0}]), LOOK)
    assert matrix is not None
    drawn = matrix.panels["mimmu"].specs[""]
    assert drawn["layer"][0]["encoding"]["x"]["scale"]["domain"] == [name]
    assert drawn["datasets"]["cells"][0]["concept"] == name
