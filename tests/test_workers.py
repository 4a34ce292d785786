import signal
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

import doomed
import pandas as pd
import psutil
import pytest

from bench import cli, workers
from bench.config import RunConfig
from bench.plan import resolve
from bench.worlds import World


def test_neighbouring_cells_forget_different_concepts(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu", "salun")))
    order = workers.in_blocks(plan, 2)
    assert sorted(order) == list(range(len(plan.cells)))
    names = [(plan.cells[i].task.name, plan.cells[i].method) for i in order]
    first, second = plan.tasks[0].name, plan.tasks[1].name
    assert names[:6] == [
        (first, "pretrained"), (first, "wrecked"), (first, "mimmu"), (second, "mimmu"), (first, "salun"),
        (second, "salun"),
    ]  # fmt: skip
    assert {method for _, method in names[-16:]} == {"pretrained", "wrecked"}  # all their images are there by now


def test_there_are_no_more_workers_than_tasks_cores_or_room_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(cores: int, suite: str) -> int:
        monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        return workers.usual_count(resolve(RunConfig(world="tiny", suite=suite)))

    monkeypatch.setattr(workers.torch.cuda, "is_available", lambda: False)
    assert [count(n, "finegrained") for n in (1, 2, 64)] == [1, 2, workers.MOST]
    assert count(2, "smoke") == 1
    monkeypatch.setattr(workers.torch.cuda, "is_available", lambda: True)
    assert count(64, "finegrained") == 1


@pytest.fixture
def doom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do what tests/doomed.py says, and load nothing for it."""
    monkeypatch.setattr(workers, "_start", doomed.start)
    monkeypatch.setattr(workers, "_work", doomed.work)


def test_a_dead_worker_takes_its_own_cell_with_it(world: World, tmp_path: Path, doom: None) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), out=tmp_path))
    told: dict[int, dict] = {}
    for index, result in workers.run(plan, 2, lambda cell, reason: {"cell": cell, "reason": reason}):
        assert index not in told
        told[index] = result
    assert sorted(told) == list(range(len(plan.cells)))
    dead = {index: result for index, result in told.items() if "reason" in result}
    assert dead.keys() == {doomed.KILLED, doomed.LEAVES}
    assert all(result["cell"] is plan.cells[index] for index, result in dead.items())
    assert "worker process died (signal 9, SIGKILL)" in dead[doomed.KILLED]["reason"]
    assert "worker process died (exit code 7)" in dead[doomed.LEAVES]["reason"]
    assert "--workers 1 needs least" in dead[doomed.LEAVES]["reason"]
    done = [result["pid"] for index, result in told.items() if index not in dead]
    assert 2 <= len(set(done)) <= 4  # two at first, and at most one more for each that died
    assert active_children() == []


def test_a_workers_own_exception_ends_the_run_and_the_workers(world: World, tmp_path: Path, doom: None) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), seeds=(doomed.RAISES,), out=tmp_path))
    with pytest.raises(LookupError, match="on purpose"):
        list(workers.run(plan, 2, lambda cell, reason: {}))
    assert active_children() == []


def test_a_method_that_kills_its_workers_is_a_failed_row(
    world: World, tmp_path: Path, doom: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--world", "tiny", "--suite", "smoke", "--methods", "pretrained", "--out", str(tmp_path)]
    monkeypatch.setattr(workers, "_work", doomed.die)
    assert cli.main([*arguments, "--workers", "2"]) == 1
    told = capsys.readouterr().out
    assert told.count("signal 9, SIGKILL") == 2
    assert "()" not in told
    for _ in range(2):
        cells = pd.read_csv(tmp_path / "smoke-tiny-cells.csv")
        assert cells["status"].tolist() == ["failed", "failed"]
        assert cells["reason"].str.contains("worker process died").all()
        assert cells["traceback"].isna().all()
        assert cli.main([*arguments, "--collect"]) == 1
    assert cli.main([*arguments, "--workers", "1"]) == 0  # tried again


@pytest.mark.slow
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
        cwd=Path(__file__).parent.parent,
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
        assert "every finished stage is kept" in told
        assert "Traceback" not in told


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why(world: World) -> None:
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",)))  # this process knows the world, a new one does not
    with pytest.raises(workers.CannotStart, match="unknown world 'tiny'"):
        list(workers.run(plan, 2, lambda cell, reason: {}))


def test_a_request_waits_for_the_one_before_it(world: World) -> None:
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), suite="sequential", forget=forget, seeds=(0, 1)))
    before = workers.predecessors(plan)
    assert len(before) == 2 * len(plan.cells) // 3
    for index, earlier in before.items():
        one, two = plan.cells[earlier], plan.cells[index]
        assert (one.method, one.seed, one.task) == (two.method, two.seed, two.task.after)
    assert not workers.predecessors(resolve(RunConfig(world="tiny", methods=("mimmu",))))


def test_no_cell_is_begun_before_what_it_starts_from_is_done(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_start", doomed.start)
    monkeypatch.setattr(workers, "_work", doomed.echo)
    forget = (world.concepts[0], world.concepts[6], world.concepts[1])
    plan = resolve(RunConfig(world="tiny", methods=("mimmu",), suite="sequential", forget=forget, out=tmp_path))
    order = [index for index, _ in workers.run(plan, 3, lambda cell, reason: {"reason": reason})]
    assert sorted(order) == list(range(len(plan.cells)))  # three workers, of which some must rest now and then
    for index, earlier in workers.predecessors(plan).items():
        assert order.index(earlier) < order.index(index)
