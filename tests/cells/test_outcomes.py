"""What the store has of cells: put together from many entries, or read from one."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cells.artifacts import Context
from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.core.store import Store
from bench.plan.plan import Plan, resolve
from bench.worlds import World

TINY = ("--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "nra", "--curve", "2")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert main.main([*TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def plan(out: Path, *metrics: str, **changes: object) -> Plan:
    run = RunConfig(("mimmu",), "smoke", "tiny", metrics=metrics or ("ua", "nra"), curve=2, out=out)
    return resolve(dataclasses.replace(run, **changes))  # type: ignore[arg-type]


def test_result_from_one_entry_equals_result_from_its_figures(out: Path) -> None:
    run = Executor(plan(out))
    whole = [run.outcomes.stored(cell) for cell in run.plan.cells]
    assert [result.status for result in whole] == ["ok"] * 3
    shutil.rmtree(out / ".store" / "results")
    assert [run.outcomes.stored(cell) for cell in run.plan.cells] == whole


def test_result_is_read_without_the_entries_of_its_figures(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Executor(plan(out))
    whole = [run.outcomes.stored(cell) for cell in run.plan.cells]
    opened: list[str] = []
    get = Store.get

    def watched(self: Store, kind: str, *rest: object, **more: object) -> object:
        opened.append(kind)
        return get(self, kind, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "get", watched)
    assert [run.outcomes.stored(cell) for cell in run.plan.cells] == whole
    assert opened.count("scores") == 3  # the curves
    assert opened.count("results") == 3


def test_other_metrics_give_another_entry_from_the_same_figures(out: Path) -> None:
    first, fewer, more = (Executor(plan(out, *names)) for names in (("ua", "nra"), ("ua",), ("ua", "nra", "ora")))
    cell = first.plan.cells[-1]
    assert fewer.outcomes.stored(cell).scores == {"ua": first.outcomes.stored(cell).scores["ua"]}
    assert more.outcomes.stored(cell).status == "not run"


def test_is_complete_does_not_read_entries(out: Path) -> None:
    run, longer = Executor(plan(out)), Executor(plan(out, curve=4))
    for cell in run.plan.cells:
        weights = run.artifacts.weights(cell)
        assert run.outcomes.is_complete(cell, weights)
        assert not longer.outcomes.is_complete(cell, weights)
        record = run.artifacts.store.path("results", run.outcomes.result_key(cell, weights)) / "record.json"
        record.write_text("damaged")
        assert run.outcomes.is_complete(cell, weights)
        assert record.read_text() == "damaged"  # or it would have been removed
        assert run.outcomes.stored(cell).status == "ok"  # the damage is found when it is read, and the parts serve
        assert record.read_text() != "damaged"


def test_force_removes_results(out: Path) -> None:
    run, fewer = Executor(plan(out)), Executor(plan(out, "ua"))
    cell, store = run.plan.cells[-1], run.artifacts.store
    weights = run.artifacts.weights(cell)
    keys = [one.outcomes.result_key(cell, weights) for one in (run, fewer)]
    assert fewer.outcomes.stored(cell).status == "ok"
    assert all(store.has("results", key) for key in keys)
    Executor(plan(out, "ua", force=True)).drop_recomputed()
    assert not any(store.has("results", key) for key in keys)  # of whatever metrics: they share their parts


def test_planning_a_new_run_loads_no_judges(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "judges", property(lambda self: pytest.fail("it loaded the judges")))
    assert main.main(["plan", *TINY, "--out", str(tmp_path)]) == 0


def test_boards_can_wait_where_nothing_is_drawn_up() -> None:
    """`--help` and `ls` answer sooner without what boards are made of."""
    slow = ("pandas", "scipy", "torchvision")
    code = f"import sys, bench.commands.main; print([name for name in {slow} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
