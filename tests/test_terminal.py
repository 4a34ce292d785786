import io
import re

import pandas as pd
import pytest
from rich.console import Console

from bench import leaderboard, terminal
from metrics import COSTS, METRICS

HEADLINES = ("H %↑", "UA %↑", "NRA %↑", "ORA %↑", "TWIN %↑", "FID ↓", "DRIFT ↓")


def result(method: str, task: str, i: int, names: tuple[str, ...]) -> leaderboard.Result:
    counts = {section: {c.name: 1 for c in COSTS if c.section == section} for section in ("cost", "data")}
    counts["cost"]["seconds"] = 1234.5
    scores = {name: {"value": 100.0 if "fid" in name else 0.1 * i, "n": 4} for name in names}
    return {
        "method": method, "fidelity": "reconstruction", "task": task, "band": "near", "seed": 0, "config": {},
        "fingerprint": "f00d", "status": "ok", "extractor": "pocket-64", "scores": scores, "concepts": [], **counts,
        "compensation": "retain images + anchor prompts",
    }  # fmt: skip


def board(names: tuple[str, ...]) -> pd.DataFrame:
    results = [result(f"some-{m}", task, i, names) for i, m in enumerate("ab") for task in ("x", "y", "z")]
    results[-1] |= {"status": "failed", "reason": "MemoryError: no room", "traceback": ""}
    return leaderboard.board_frame(results, names, "full")


def printed(names: tuple[str, ...], width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal.show(board(names), names, "the title", width))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_board_fits_the_terminal(width: int) -> None:
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


def test_many_metrics_are_spread_over_tables() -> None:
    names = METRICS.names()
    chosen = tuple(name for name in names if name != "ua")  # chosen by name: all are shown
    lines = printed(chosen, 80)
    heads = [line for line in lines if line.split()[:1] == ["method"]]
    assert max(map(len, lines)) <= 80
    assert all(sum(f" {name.upper()} " in head for head in heads) == 1 for name in chosen)
    assert not any("…" in line for line in lines)


def test_metrics_chosen_by_name_are_all_shown() -> None:
    assert [m.name for m in terminal.in_table(("kid", "mi"))] == ["kid", "mi"]
    assert {m.name for m in terminal.in_table(METRICS.names())} == {"ua", "nra", "ora", "twin", "fid", "drift"}
