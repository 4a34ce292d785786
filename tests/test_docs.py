"""What the documents tell the reader to do works as written."""

import re
from pathlib import Path

import pandas as pd
import pytest

from bench import cli
from bench.worlds import World
from methods import METHODS

ROOT = Path(__file__).parent.parent


def test_the_method_of_the_guide_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "add-a-method.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "neighbour_of_the_guide.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS._entries, "neighbour", "neighbour_of_the_guide:Neighbour")
    arguments = ["--world", "tiny", "--suite", "smoke", "--methods", "neighbour", "--out", str(tmp_path)]
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
