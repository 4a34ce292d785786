"""What a shell and its workers tell each other through a folder."""

import dataclasses
import threading
from pathlib import Path

import pandas as pd
import pytest
from support import requested

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.engines.base import CannotStart, WorkOutcome
from bench.engines.run_folder import OtherMachine, RunFolder
from bench.plan.plan import resolve
from bench.worlds import World

CPU = {"device": "cpu", "dtype": "torch.float32", "versions": {"torch": "2"}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(RunConfig(out=tmp_path))


def test_run_folder_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, there = RunConfig(out=Path("boards")), RunConfig(out=tmp_path / "boards", force=True)
    assert RunFolder(here).path == RunFolder(there).path == RunFolder(there.elsewhere()).path
    assert RunFolder(here).path.parent == tmp_path / "boards" / ".store" / "runs"
    assert RunFolder(dataclasses.replace(here, seeds=(0, 1))).path != RunFolder(here).path
    assert not there.elsewhere().force


def test_news_returns_each_complete_result_once(folder: RunFolder) -> None:
    assert folder.news(()) == {}
    finished = WorkOutcome(requested.finetuned("mimmu", "tulip", "5 pictures", (0.0, 0.5)))
    folder.put(3, finished)
    folder.put(11, WorkOutcome())
    (folder.path / "results" / ".new-x").write_text('{"half')
    assert folder.news(()) == {3: finished, 11: WorkOutcome()}
    assert folder.news({3}) == {11: WorkOutcome()}
    assert folder.has(3)
    folder.take(3)
    assert not folder.has(3)
    assert folder.news(()) == {11: WorkOutcome()}


def test_a_run_has_one_kind_of_machine(folder: RunFolder) -> None:
    assert folder.machine() is None
    folder.claim(CPU)
    folder.claim(dict(CPU))
    assert folder.machine() == CPU
    for other in ({"device": "NVIDIA H100"}, {"versions": {"torch": "3"}}):
        with pytest.raises(OtherMachine, match="request one kind of node"):
            folder.claim({**CPU, **other})
    folder.put(1, WorkOutcome())
    folder.note({"jobs": {}, "signed": ""})
    folder.clear(machine=False)
    assert (folder.news(()), folder.state(), folder.machine()) == ({}, None, CPU)
    folder.clear(machine=True)
    assert folder.machine() is None


def test_first_of_simultaneous_workers_sets_the_machine(folder: RunFolder) -> None:
    kinds = [{**CPU, "device": f"card {i}"} for i in range(8)]
    refused = []

    def claim(kind: dict) -> None:
        try:
            folder.claim(kind)
        except OtherMachine:
            refused.append(kind)

    threads = [threading.Thread(target=claim, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    assert folder.machine() not in refused


def test_two_shells_do_not_watch_one_run(folder: RunFolder) -> None:
    def other() -> None:
        with pytest.raises(CannotStart, match="another command watches this run"):
            folder.watched().__enter__()

    with folder.watched():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()


def test_results_of_nodes_of_another_kind_are_collected(world: World, tmp_path: Path) -> None:
    words = ["--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "--out", str(tmp_path)]
    run = RunConfig(("mimmu",), "smoke", "tiny", metrics=("ua",), out=tmp_path)
    executor = Executor(resolve(run))
    own = executor.outcomes.fingerprint
    early = executor.outcomes.failed(executor.plan.cells[2], "its job ended")
    node = {**executor.context.machine, "device": "a card"}
    executor.adopt(node)
    assert executor.outcomes.fingerprint != own
    assert executor.outcomes.relabel(executor.plan.cells[2], early).fingerprint == executor.outcomes.fingerprint
    results = [executor.run(cell) for cell in executor.plan.cells]
    assert [result.status for result in results] == ["ok"] * 3
    assert executor.outcomes.relabel(executor.plan.cells[2], results[2]) is results[2]
    assert main.main(["collect", *words]) == 1  # nothing says what computed it
    assert pd.read_csv(tmp_path / "smoke-tiny.csv")["status"].tolist() == ["1 not run of 1"] * 2 + ["1 failed of 1"]
    RunFolder(run).claim(node)
    assert main.main(["collect", *words]) == 0
    assert "a card" in (tmp_path / "smoke-tiny.json").read_text()
    board = pd.read_csv(tmp_path / "smoke-tiny.csv", dtype={"fingerprint": str})  # of digits alone now and then
    assert set(board["fingerprint"]) == {executor.outcomes.fingerprint}
