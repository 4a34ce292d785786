"""What the documents tell the reader to do works as written."""

import re
from pathlib import Path

import pandas as pd
import pytest

from bench import cli, leaderboard
from bench.worlds import World
from methods import METHODS
from metrics import COSTS, METRICS

ROOT = Path(__file__).parent.parent


def test_the_method_of_the_guide_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "add-a-method.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "neighbour_of_the_guide.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS._entries, "neighbour", "neighbour_of_the_guide:Neighbour")
    arguments = ["--world", "tiny", "--suite", "smoke", "--methods", "neighbour", "--out", str(tmp_path)]
    arguments += ["--metrics", "ua"]
    assert cli.main(arguments) == 0
    board = pd.read_csv(tmp_path / "smoke-tiny.csv").set_index("method")
    assert board.loc["neighbour", "status"] == "ok"
    assert board.loc["neighbour", "compensation"] == "anchor prompts"


def test_the_commands_of_the_readme_are_understood() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "add-a-method.md").read_text()
    commands = re.findall(r"python run_bench\.py ([^\n#&]*)", text)
    assert len(commands) >= 6
    for command in commands:
        if command.strip() != "--help":
            cli.parser().parse_args(command.split())


def documented(section: int) -> dict[str, tuple[str, str]]:
    """Column -> unit and direction, in order, as docs/leaderboard.md has them in one of its three tables."""
    text = (ROOT / "docs" / "leaderboard.md").read_text().split("\n## ")[section]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| `")]
    return {name: (unit, better) for names, unit, better in rows for name in re.findall(r"`(\w+)`", names)}


def test_every_column_of_the_files_is_documented_in_order() -> None:
    names = METRICS.names()
    scores = {name: {"value": 0.5, "n": 4} for name in names}
    about = {"method": "pretrained", "fidelity": "control", "task": "t", "band": "", "seed": 0, "config": {}}
    counts = {section: {cost.name: 1 for cost in COSTS if cost.section == section} for section in ("cost", "data")}
    means = {name: 0.5 for name in names if METRICS.get(name).each}
    concept = {"concept": "t", "role": "forget", "closeness": 1.0, "judge": 1.0, "judge_n": 4, "accuracy": 0.5, "n": 4}
    concept |= means
    result = {
        **about, **counts, "status": "ok", "scores": scores, "concepts": [concept], "compensation": "none",
        "extractor": "x", "fingerprint": "f",
    }  # fmt: skip
    frames = [
        leaderboard.board_frame([result], names, "full"),
        leaderboard.cells_frame([result], names),
        leaderboard.concepts_frame([result], names),
    ]
    for section, frame in enumerate(frames, start=1):
        assert list(documented(section)) == frame.columns.tolist()


def test_units_and_directions_are_documented_as_they_are() -> None:
    for section in (1, 2):
        found = documented(section)
        for metric in map(METRICS.get, METRICS.names()):
            columns = [c for c in found if re.fullmatch(rf"{metric.name}(_drop)?(_lo|_hi|_n)?", c)]
            assert {found[column] for column in columns} == {(metric.unit, metric.arrow)}
        for cost in COSTS:
            assert found[cost.name] == (cost.unit, "↓")
