import ast
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pandas as pd
import psutil
import pytest
from safetensors import SafetensorError
from support import doomed

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.engines import Settings, Status, local
from bench.engines.base import CannotStart
from bench.engines.local import Local
from bench.plan.plan import Cell, Plan, resolve
from bench.plan.work_graph import predecessors
from bench.worlds import World


def run(plan: Plan, count: int, retries: int = 0) -> list[tuple[int, dict]]:
    return list(local.in_processes(Executor(plan), count, retries))


def test_neighbouring_cells_forget_different_concepts(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu", "salun")))
    order = local.in_blocks(plan, 2)
    assert sorted(order) == list(range(len(plan.cells)))
    names = [(plan.cells[i].task.name, plan.cells[i].method) for i in order]
    first, second = plan.tasks[0].name, plan.tasks[1].name
    assert names[:6] == [
        (first, "pretrained"), (first, "wrecked"), (first, "mimmu"), (second, "mimmu"), (first, "salun"),
        (second, "salun"),
    ]  # fmt: skip
    assert {method for _, method in names[-16:]} == {"pretrained", "wrecked"}  # all their images are there by now


def test_the_usual_count_of_workers_follows_from_cores_and_from_cells_that_can_train_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(cores: int, suite: str, seeds: int = 1) -> int:
        monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        run = RunConfig(world="tiny", suite=suite, methods=("mimmu",), seeds=tuple(range(seeds)))
        return local.usual_count(resolve(run))

    monkeypatch.setattr(local.torch.cuda, "is_available", lambda: False)
    assert [count(n, "finegrained") for n in (1, 2, 64)] == [1, 2, local.MAX_LOCAL_WORKERS]
    assert count(2, "smoke") == 1  # one cell trains
    assert [count(n, "smoke", seeds=24) for n in (1, 2, 3, 64)] == [1, 2, 3, local.MAX_LOCAL_WORKERS]  # of one task
    assert count(64, "smoke", seeds=2) == 2
    monkeypatch.setattr(local.torch.cuda, "is_available", lambda: True)
    assert count(64, "finegrained") == 1


@pytest.fixture
def doom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do what tests/support/doomed.py says, and load nothing for it."""
    monkeypatch.setattr(local, "_start", doomed.start)
    monkeypatch.setattr(local, "_work", doomed.work)


@pytest.mark.huge
def test_dead_worker_fails_only_its_own_cell(world: World, tmp_path: Path, doom: None) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), out=tmp_path))
    told: dict[int, CellResult] = {}
    for index, result in run(plan, 2):
        assert index not in told
        told[index] = result
    assert sorted(told) == list(range(len(plan.cells)))
    dead = {index: result for index, result in told.items() if not result.ok}
    assert dead.keys() == {doomed.KILLED, doomed.LEAVES}
    assert all(result.task == plan.cells[index].task.name for index, result in dead.items())
    assert all(result.status == "failed" for result in dead.values())
    assert "worker process died (signal 9, SIGKILL)" in dead[doomed.KILLED].reason
    assert "worker process died (exit code 7)" in dead[doomed.LEAVES].reason
    assert "--workers 1 needs least" in dead[doomed.LEAVES].reason
    done = [result.cost["pid"] for index, result in told.items() if index not in dead]
    assert 2 <= len(set(done)) <= 4  # two at first, and at most one more for each that died
    assert active_children() == []


def test_a_dead_worker_is_replaced_and_its_cell_tried_again(
    world: World, tmp_path: Path, doom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_work", doomed.once)
    monkeypatch.setenv("LETHE_DOOMED", str(tmp_path))
    plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path))
    told, seen = [], list[Status]()
    for index, result in local.in_processes(Executor(plan), 2, 1, seen.append):
        told.append(index)
        assert result.ok
    assert sorted(told) == list(range(len(plan.cells)))  # each once
    assert len(list(tmp_path.glob("tried-*"))) == len(plan.cells)
    assert max(status.running for status in seen) == 2
    assert [status.running + status.waiting for status in seen] == sorted(
        (status.running + status.waiting for status in seen), reverse=True
    )


def test_only_failures_of_the_machine_are_tried_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path))
    executor, tries = Executor(plan), Counter[str]()

    def full(cell: Cell) -> None:
        tries[cell.method] += 1
        if cell.method == "mimmu":
            raise SafetensorError("I/O error: No space left on device (os error 28)")  # from writing tensors
        if tries[cell.method] == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor, "_evaluate", full)

    def stored(cell: Cell) -> CellResult:
        done = cell.method != "mimmu" and tries[cell.method] == 2
        return dataclasses.replace(executor.outcomes.not_run(cell), status="ok" if done else "not run")

    monkeypatch.setattr(executor.outcomes, "stored", stored)
    found = dict(Local(Settings(1, retries=2)).run(executor, lambda status: None))
    assert tries == {"pretrained": 2, "wrecked": 2, "mimmu": 2 + 1}
    assert [result.status for result in found.values()] == ["ok", "ok", "failed"]
    assert "No space left on device" in found[2].reason


def test_failure_that_can_not_be_stored_is_returned(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path)))

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor.artifacts.store, "put", full)
    result = executor.outcomes.failed(executor.plan.cells[2], "it died", log="/logs/1.txt")
    assert (result.status, result.traceback) == ("failed", "/logs/1.txt")
    assert result.reason.startswith("it died (this failure could not be stored: [Errno 28]")


def test_flags_of_a_cluster_are_refused_here() -> None:
    for settings, said in ((Settings(attach=True), "--attach needs"), (Settings(options={"a": "1"}), "takes no")):
        with pytest.raises(ValueError, match=said):
            Local(settings)


def test_a_workers_own_exception_ends_the_run_and_the_workers(world: World, tmp_path: Path, doom: None) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), seeds=(doomed.RAISES,), out=tmp_path))
    with pytest.raises(LookupError, match="on purpose"):
        run(plan, 2)
    assert active_children() == []


@pytest.fixture
def children_of_the_caller() -> Iterator[list[psutil.Process]]:
    """A program and a Python process that the caller of a run has started."""
    program = subprocess.Popen(["sleep", "300"])
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    process.start()
    assert process.pid is not None
    yield [psutil.Process(program.pid), psutil.Process(process.pid)]
    program.kill()
    process.kill()
    program.wait()
    process.join()


@pytest.mark.parametrize("end", ["normal", "early", "interrupt"])
def test_a_run_ends_what_its_workers_started_and_nothing_else(
    world: World,
    tmp_path: Path,
    doom: None,
    monkeypatch: pytest.MonkeyPatch,
    children_of_the_caller: list[psutil.Process],
    end: str,
) -> None:
    monkeypatch.setattr(local, "_work", doomed.starts_another)
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), seeds=tuple(range(3)), suite="smoke", out=tmp_path))
    found = local.in_processes(Executor(plan), 2, 0)
    _, result = next(found)
    ours = [psutil.Process(result.cost["pid"]), psutil.Process(result.cost["other"])]
    if end == "normal":
        ours += [psutil.Process(result.cost["other"]) for _, result in found]
        assert len(ours) == 2 + len(plan.cells) - 1
    elif end == "early":
        found.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            found.throw(KeyboardInterrupt())
    assert psutil.wait_procs(ours, timeout=10)[1] == []
    assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children_of_the_caller)


def test_a_run_whose_worker_raises_leaves_the_callers_children_alone(
    world: World, tmp_path: Path, doom: None, children_of_the_caller: list[psutil.Process]
) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), seeds=(doomed.RAISES,), out=tmp_path))
    with pytest.raises(LookupError, match="on purpose"):
        run(plan, 2)
    assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children_of_the_caller)


def test_a_method_that_kills_its_workers_is_a_failed_row(
    world: World, tmp_path: Path, doom: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--world", "tiny", "--suite", "smoke", "--methods", "pretrained", "--out", str(tmp_path)]
    monkeypatch.setattr(local, "_work", doomed.die)
    assert main.main([*arguments, "--workers", "2"]) == 1
    told = capsys.readouterr().out
    assert told.count("signal 9, SIGKILL") == 2
    assert told.count("(tried 2 times)") == 2
    assert "()" not in told
    for _ in range(2):
        cells = pd.read_csv(tmp_path / "smoke-tiny-cells.csv")
        assert cells["status"].tolist() == ["failed", "failed"]
        assert cells["reason"].str.contains("worker process died").all()
        assert cells["traceback"].isna().all()
        assert main.main(["collect", *arguments]) == 1
    assert main.main([*arguments, "--workers", "1"]) == 0  # tried again


# short ones: test_what_a_worker_started_ends_with_a_run_that_was_killed,
# test_a_run_ends_what_its_workers_started_and_nothing_else
@pytest.mark.huge
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run_however_it_ends(tmp_path: Path, how: signal.Signals) -> None:
    tiny = ["protocol.images_per_concept=1", "protocol.num_inference_steps=1", "protocol.reference_per_concept=2"]
    endless = ["mimmu.epochs=100000", "protocol.forget_images=2"]
    command = [sys.executable, "-u", "run_bench.py", "--methods", "mimmu", "--workers", "2", "--set", *tiny, *endless]
    run = subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in the background
    )
    try:
        assert run.stdout is not None
        assert "[1/27]" in run.stdout.readline()
        children = psutil.Process(run.pid).children()
        run.send_signal(how)
        told = run.stdout.read()  # to the end: until nobody holds the pipe any more
        assert run.wait(20) == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[how]
    finally:
        run.kill()
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=10)[1] == []
    if how == signal.SIGINT:
        assert "the store keeps every finished stage" in told
        assert "Traceback" not in told


ALONE = """
import time
from support import doomed
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.engines.local import Worker

if __name__ == "__main__":
    worker = Worker(RunConfig(world="none"), 1)
    print(dict(worker._pool.submit(doomed.starts_another, 0).result().cost), flush=True)
    time.sleep(300)
"""


@pytest.mark.slow
def test_what_a_worker_started_ends_with_a_run_that_was_killed(tmp_path: Path) -> None:
    root, script = Path(__file__).parents[2], tmp_path / "alone.py"
    script.write_text(ALONE)
    paths = os.pathsep.join([str(root), str(root / "tests")])
    command = [sys.executable, str(script)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    try:
        assert run.stdout is not None
        started = [psutil.Process(pid) for pid in ast.literal_eval(run.stdout.readline()).values()]
    finally:
        run.kill()
    run.wait(20)
    assert len(started) == 2
    assert psutil.wait_procs(started, timeout=20)[1] == []


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",)))  # this process knows the world, a new one does not
    with pytest.raises(CannotStart, match="unknown world 'tiny'"):
        run(plan, 2)


def test_cell_starts_after_its_start_weights_are_done(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_start", doomed.start)
    monkeypatch.setattr(local, "_work", doomed.echo)
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), suite="sequential", forget=forget, out=tmp_path))
    order = [index for index, _ in run(plan, 3)]
    assert sorted(order) == list(range(len(plan.cells)))  # three workers, of which some must rest now and then
    for index, earlier in predecessors(plan).items():
        assert order.index(earlier) < order.index(index)
