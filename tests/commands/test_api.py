import dataclasses
import logging
import multiprocessing.resource_tracker
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from bench import Board, RunConfig, load_board, run
from bench.commands import main
from bench.plan.board_name import board_name
from bench.plan.plan import resolve
from bench.worlds import World
from methods import METHODS, Method

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("plugged")


def config(out: Path, *methods: str, **changes: object) -> RunConfig:
    settings = {"suite": "smoke", "world": "tiny", "metrics": ("ua",), "out": out, **changes}
    return RunConfig(methods=methods or ("mimmu",), **settings)  # type: ignore[arg-type]


class Rude(Method):
    """Changes what it can of the process, and ends in an error."""

    about = source = "a test"
    fidelity = "control"
    error: type[BaseException] = MemoryError

    def edit(self, harness: object) -> None:
        os.environ["LETHE_TEST_RUDE"] = "1"
        os.environ.pop("LETHE_TEST_THERE", None)
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger("bench").addHandler(logging.StreamHandler())
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.backends.cuda.matmul.allow_tf32 = not torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.use_deterministic_algorithms(True)
        torch._C._set_grad_enabled(False)
        raise self.error("on purpose")


class Interrupted(Rude):
    """The same as Ctrl-C."""

    error = KeyboardInterrupt


def state() -> dict[str, Any]:
    """What a run must leave as it was."""
    loggers = [logging.root, *(logging.getLogger(name) for name in ("bench", "methods", "metrics", "diffusers"))]
    tracker = multiprocessing.resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    generator = np.random.get_state()
    return {
        "environment": dict(os.environ),
        "loggers": [(one.name, one.level, list(one.handlers), one.propagate, one.disabled) for one in loggers],
        "threads": {thread.name for thread in threading.enumerate()},
        "children": {child.pid for child in psutil.Process().children(recursive=True)} - {tracker},
        "signals": {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        "random": (random.getstate(), generator[1].tolist(), generator[2], torch.get_rng_state().tolist()),  # type: ignore[union-attr]
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "num_threads": torch.get_num_threads(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "streams": (sys.stdout, sys.stderr, sys.excepthook, threading.excepthook),
        "folder": os.getcwd(),
    }


def attempt(out: Path, how: str) -> None:
    if how == "works":
        run(config(out), progress=False)
    elif how == "fails":
        assert "failed" in set(run(config(out, "rude"), progress=False).cells["status"])
    elif how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            run(config(out, "interrupted"), progress=False)
    else:
        with pytest.raises(ValueError, match="unknown world"):
            run(config(out, world="nowhere"), progress=False)


@pytest.mark.parametrize("how", ["works", "fails", "interrupted", "refused"])
def test_run_restores_state_of_process(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    METHODS.add("rude", Rude)
    METHODS.add("interrupted", Interrupted)
    monkeypatch.setenv("LETHE_TEST_THERE", "1")
    before = state()
    capfd.readouterr()
    attempt(tmp_path, how)
    printed = capfd.readouterr()
    after = state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert (printed.out, printed.err) == ("", "")


@pytest.fixture(scope="module")
def board(world: World, tmp_path_factory: pytest.TempPathFactory) -> Board:
    return run(config(tmp_path_factory.mktemp("board")), progress=False)


def test_run_returns_board(board: Board) -> None:
    assert board.table["method"].tolist() == ["pretrained", "wrecked", "mimmu"]
    assert board.cells["status"].tolist() == ["ok"] * 3
    assert len(board.concepts) == 3 * 5
    assert board.report is not None
    assert board.report.read_text().startswith("<!doctype html>")
    assert board.name == "smoke-tiny"
    assert board.description["world"] == "tiny"
    pd.testing.assert_frame_equal(board.table, pd.read_csv(board.path, dtype={"fingerprint": str}))


def test_run_writes_same_files_as_command_line(board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    files = {file.name: file.read_bytes() for file in board.path.parent.glob("smoke-tiny*")}
    words = ["--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua"]
    assert main.main([*words, "--out", str(board.path.parent), "--workers", "1"]) == 0
    assert {file.name: file.read_bytes() for file in board.path.parent.glob("smoke-tiny*")} == files


def test_failed_cell_has_row_with_status(world: World, tmp_path: Path) -> None:
    METHODS.add("rude", Rude)
    cells = run(config(tmp_path, "rude"), progress=False).cells.set_index("method")
    assert cells["status"].to_dict() == {"pretrained": "ok", "wrecked": "ok", "rude": "failed"}
    assert cells.loc["rude", "reason"] == "MemoryError: on purpose"


def test_run_works_in_thread(board: Board) -> None:
    found: list[Board] = []
    thread = threading.Thread(target=lambda: found.append(run(config(board.path.parent), progress=False)))
    thread.start()
    thread.join()
    assert [one.path for one in found] == [board.path]


def test_run_prints_only_progress_bar(board: Board, capfd: pytest.CaptureFixture[str]) -> None:
    run(config(board.path.parent))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"\s*cells\s.*3/3.*\s*", printed.err)


@pytest.mark.parametrize(
    "changes", [{"suite": "nothing"}, {"methods": ("mimu",)}, {"seeds": (1, 1)}, {"backbone": "./nowhere"}]
)
def test_run_raises_with_messages_of_command_line(world: World, tmp_path: Path, changes: dict) -> None:
    given = dataclasses.replace(config(tmp_path), **changes)
    with pytest.raises(ValueError, match=r"\w") as caught:
        run(given, progress=False)
    with pytest.raises((ValueError, FileNotFoundError)) as direct:
        resolve(given)
    assert str(caught.value) == str(direct.value)


def test_board_of_other_configuration_needs_overwrite(world: World, tmp_path: Path) -> None:
    run(config(tmp_path), progress=False)
    file = tmp_path / "smoke-tiny.json"
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "a card"'))
    with pytest.raises(ValueError, match='device: "a card" there, "cpu" here'):
        run(config(tmp_path), progress=False)
    assert run(config(tmp_path, overwrite=True), progress=False).description["device"] == "cpu"


def test_load_board_takes_path_or_name(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = str(board.path).removesuffix(".csv")
    for name in (stem, board.path, f"{stem}-cells.csv", f"{stem}.html"):
        assert load_board(name).path == board.path
    shipped = load_board("finegrained-pocket")
    assert shipped.path.parent.name == "reference"
    assert "mimmu" in set(shipped.table["method"])
    (board.path.parent / "leaderboards").mkdir()
    own = board.path.parent / "leaderboards" / "finegrained-pocket.csv"
    own.write_text("method\nown\n")
    monkeypatch.chdir(board.path.parent)
    assert load_board("finegrained-pocket").table["method"].tolist() == ["own"]
    with pytest.raises(FileNotFoundError, match="did you mean 'finegrained-pocket'"):
        load_board("finegraind-pocket")


def test_import_of_bench_is_light() -> None:
    code = "import sys, bench; assert not {'torch', 'pandas', 'rich'} & set(sys.modules); bench.RunConfig"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = __import__("bench").nothing


@pytest.mark.huge
def test_workers_end_with_run(tmp_path: Path) -> None:
    few = {"protocol": {"images_per_concept": "1", "num_inference_steps": "1", "reference_per_concept": "2"}}
    given = RunConfig(("pretrained",), "smoke", metrics=("ua",), overrides=few, out=tmp_path)
    before = state()
    board = run(given, workers=2, progress=False)
    assert board.cells["status"].tolist() == ["ok"] * 2
    assert board.name == board_name(resolve(given))
    after = state()
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.huge
def test_example_of_guide_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python-api.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mimmu" in done.stdout
    assert (tmp_path / "trial" / "smoke-pocket.html").is_file()
