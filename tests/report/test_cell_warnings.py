"""Warnings about cells: they are stored with the weights, and every output shows them."""

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.boards import only
from support.results import cell_result

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.report.cell_warnings import sentences
from bench.training.loop import CHANGED_NOTHING
from bench.worlds import World

RUN = ("--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "--workers", "1")


@pytest.fixture(scope="module")
def out(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which mimmu changes nothing, because its learning rate is 0."""
    folder = tmp_path_factory.mktemp("warned")
    assert main.main([*RUN, "--set", "mimmu.lr=0", "--out", str(folder)]) == 0
    return folder


def test_sentences_name_the_method_and_its_cells() -> None:
    cells = [cell_result(method, task, seed=seed) for method in "ab" for task in ("x", "y") for seed in (0, 1)]
    every = [dataclasses.replace(one, warnings=("w",)) if one.method == "a" else one for one in cells]
    some = [dataclasses.replace(one, warnings=("v", "w")) if one.seed == 0 == i else one for i, one in enumerate(every)]
    several = [dataclasses.replace(one, warnings=("read /data/x/y.pt",)) if one.seed else one for one in cells]
    assert sentences(cells) == []
    assert sentences(every) == ["a: w (in all 4 cells)."]
    assert sentences(some) == ["a: v (task x, seed 0).", "a: w (in all 4 cells)."]
    assert sentences(several) == ["a: read y.pt (in 2 of 4 cells).", "b: read y.pt (in 2 of 4 cells)."]


def test_outputs_show_warnings(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("collect", *RUN, "--set", "mimmu.lr=0", "--out", str(out))
    assert main.main([*words]) == 0
    sentence = f"mimmu: {CHANGED_NOTHING}"
    printed = " ".join(capsys.readouterr().out.split())
    assert f"warning: {sentence}" in printed
    cells = pd.read_csv(only(out, "-cells.csv")).set_index("method")["warnings"]
    assert cells["mimmu"] == CHANGED_NOTHING
    assert cells.drop("mimmu").isna().all()
    assert f"- {sentence}" in only(out, ".md").read_text()
    assert sentence in only(out, ".html").read_text()


def test_board_without_warnings_does_not_mention_them(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / ".store", tmp_path / ".store")
    words = ["pretrained" if word == "mimmu" else word for word in RUN]
    assert main.main([*words, "--out", str(tmp_path)]) == 0
    assert "warnings" not in pd.read_csv(tmp_path / "smoke-tiny-cells.csv")
    for ending in (".md", ".html"):
        assert "Warnings" not in (tmp_path / f"smoke-tiny{ending}").read_text()


def test_facts_name_warnings_only_if_there_are_any(out: Path) -> None:
    run = RunConfig(
        ("mimmu",), "smoke", "tiny", metrics=("ua",), out=out,
        overrides={"mimmu": {"lr": "0"}},
    )  # fmt: skip
    executor = Executor(resolve(run))
    stored = {cell.method: executor.artifacts.weights.stored(cell) for cell in executor.plan.cells}
    assert {name: entry and entry.facts.get("warnings") for name, entry in stored.items()} == {
        "pretrained": None,
        "wrecked": None,
        "mimmu": [CHANGED_NOTHING],
    }
