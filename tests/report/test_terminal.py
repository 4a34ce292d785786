import dataclasses
import io
import re

import pandas as pd
import pytest
from rich.console import Console
from support import requested
from support.results import cell_result, failed, scores

from bench.board import tables
from bench.core.results import CellResult
from bench.report import markdown, terminal
from metrics import METRICS

HEADLINES = ("H %↑", "UA %↑", "NRA %↑", "ORA %↑", "TWIN %↑", "FID ↓", "DRIFT ↓")


def result(method: str, task: str, i: int, names: tuple[str, ...]) -> CellResult:
    values = {name: 100.0 if "fid" in name else 0.1 * i for name in names}
    given = "retain images + anchor prompts"
    return cell_result(method, task, 1234.5, fidelity="reconstruction", scores=scores(values, 4), compensation=given)


def board(names: tuple[str, ...]) -> pd.DataFrame:
    results = [result(f"some-{m}", task, i, names) for i, m in enumerate("ab") for task in ("x", "y", "z")]
    results[-1] = failed(results[-1], "MemoryError: no room")
    return tables.board_frame(results, names, "full")


def printed(names: tuple[str, ...], width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal.show(board(names), names, "the title", width))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_board_fits_terminal(width: int) -> None:
    lines = printed(METRICS.names(), width)
    assert max(map(len, lines)) <= width
    heads = [line for line in lines if line.split()[:1] == ["method"]]
    assert len(heads) == {80: 2, 120: 2}[width]
    for column in ("rank", *HEADLINES, "s/cell", "compensation", "status"):
        assert sum(f" {column}" in head for head in heads) == 1
    assert sum(head.count("↑") + head.count("↓") for head in heads) == len(HEADLINES)
    assert not any("…" in line for line in lines)
    assert sum(line.strip().startswith("some-a*") for line in lines) == len(heads)
    words = re.findall(r"[\w+]+", "\n".join(lines))
    assert {"retain", "images", "anchor", "prompts", "failed", "1234", "f00d"} <= set(words)  # whole
    assert words.count("title") == 1


def test_many_metrics_use_several_tables() -> None:
    names = METRICS.names()
    chosen = tuple(name for name in names if name != "ua")  # chosen by name: all are shown
    lines = printed(chosen, 80)
    heads = [line for line in lines if line.split()[:1] == ["method"]]
    assert max(map(len, lines)) <= 80
    assert all(sum(f" {name.upper()} " in head for head in heads) == 1 for name in chosen)
    assert not any("…" in line for line in lines)


def test_metrics_chosen_by_name_are_shown() -> None:
    assert [m.name for m in terminal.in_table(("kid", "mi"))] == ["kid", "mi"]
    assert {m.name for m in terminal.in_table(METRICS.names())} == {"ua", "nra", "ora", "twin", "fid", "drift"}


OWN = {
    "multi": ("H", "K2", "K4", "UA", "NRA", "ORA", "way"),
    "sequential": ("FINAL", "KEPT", "RETURN", "REQUEST"),
    "resurgence": ("FROM", "AUC", "HALF", "EXCESS"),
}


@pytest.fixture(scope="module")
def special() -> dict[str, pd.DataFrame]:
    """A board of each suite that has columns of its own, with every metric that a narrow table may show."""
    forgotten = [{"a": 0.9}, {"a": 0.6, "b": 1.0}]
    probes = [
        requested.finetuned(method, "a", kind, points)
        for method, points in (("pretrained", [1.0, 1.0]), ("oracle", [0.0, 0.3]), ("some-method", [0.0, 0.9]))
        for kind in ("unrelated, full", "5 pictures")
    ]
    cells = {
        "multi": [
            requested.result("some-method", f"{k}", [str(i) for i in range(k)], multi="closed_form") for k in (2, 4)
        ],
        "sequential": [one for seed in (0, 1) for one in requested.sequence("some-method", forgotten, seed=seed)],
        "resurgence": probes,
    }
    words = "retain images + anchor prompts"
    return {
        suite: tables.board_frame(
            [dataclasses.replace(one, compensation=words) for one in rows], requested.NAMES, "full"
        )
        for suite, rows in cells.items()
    }


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("suite", OWN)
def test_columns_of_suite_replace_general_columns(special: dict[str, pd.DataFrame], suite: str, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal.show(special[suite], METRICS.names(), "the title", width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = re.findall(r"[\w+@]+", text)
    assert {*OWN[suite], "compensation", "status", "cell"} <= set(words)
    assert not {"TWIN", "FID", "RIPPLE"} & set(words)
    assert ("rank" in words) == (suite != "resurgence")
    over = {"multi": "tasks", "sequential": "sequences", "resurgence": "unlearned models"}[suite]
    assert f"bootstrap over {over})" in " ".join(text.split())
    rows = markdown.table(special[suite], METRICS.names(), "title").splitlines()
    assert len({row.count("|") for row in rows[2:5]}) == 1
