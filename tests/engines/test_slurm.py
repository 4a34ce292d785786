"""The SLURM engine: its rules here, and itself on a SLURM cluster of two nodes (marker `slurm`)."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import slurm_cluster

from bench import cli, labour
from bench.config import RunConfig
from bench.engines import Settings, slurm
from bench.engines.slurm import Book, Job, Slurm, last_words, minutes
from bench.executor import Executor
from bench.plan import resolve
from bench.runs import RunFolder
from bench.units import signature, units

ROOT = Path(__file__).parents[2]
METRICS = ("ua", "nra", "drift")
MEASURED = ["seconds", "peak_bytes"]  # what no two runs share


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", 90), ("90:01", 91), ("4:00:00", 240), ("1-12", 2160), ("1-0:30", 1470), ("2-1:2:3", 2943)],
)
def test_time_limits_are_read_as_sbatch_does(text: str, found: int) -> None:
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "4h"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time limit of sbatch's, e\.g\. 90, 4:00:00 or 1-12"):
        minutes(text)


def test_settings_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert Slurm(Settings(options={"partition": "gpu", "exclusive": ""})).options == {
        "partition": "gpu", "exclusive": True,
    }  # fmt: skip
    for options, said in (({"cells": "0"}, "at least 1"), ({"cells": "x"}, "invalid"), ({"time": "x"}, "time limit")):
        with pytest.raises(ValueError, match=said):
            Slurm(Settings(options=options))
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="sbatch is not on the PATH"):
        Slurm(Settings())


def test_the_book_knows_who_has_what_and_how_often_it_was_tried() -> None:
    book = Book({})
    book.give("7_0", (0, 1))
    book.give("7_1", (2,))
    book.give("9", (1,))
    assert (book.job_of(0), book.job_of(1), dict(book.attempts)) == ("7_0", "9", {0: 1, 1: 2, 2: 1})
    again = Book(json.loads(json.dumps(book.state("s"))))
    assert (again.jobs, again.attempts, again.job_of(1)) == (book.jobs, book.attempts, "9")


def test_units_are_lost_only_when_their_last_job_was_gone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    engine, book, gone, clock = Slurm(Settings()), Book({}), dict[str, float](), [100.0]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    book.give("7_0", (0, 1))
    book.give("7_1", (2,))

    def lost(*alive: str, done: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
        return engine._lost(book, dict.fromkeys(alive, "RUNNING"), gone, {*done})

    assert lost("7_0", "7_1") == lost("7_1") == []
    clock[0] += 29
    assert lost("7_0", "7_1") == []  # it was only requeued
    assert lost("7_1") == []
    clock[0] += 31
    assert lost("7_1") == [0, 1]
    assert lost("7_1", done={0}) == [1]
    book.give("8", (1,))
    assert lost("7_1", "8", done={0}) == []  # another job has it


def test_a_job_says_what_came_of_each_unit_and_skips_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, did = RunConfig(out=tmp_path), []

    def work(run: RunConfig, folder: RunFolder, place: int, signed: str) -> dict:
        did.append(place)
        return {"status": "ok", "place": place}

    monkeypatch.setattr(labour, "work", work)
    folder = RunFolder(run)
    folder.put(1, {"status": "ok", "place": 1})
    job = Job(run, folder, "s")
    job((0, 1, 2))
    assert did == [0, 2]
    assert {place: result["place"] for place, result in folder.news(()).items()} == {0: 0, 1: 1, 2: 2}
    pytest.importorskip("submitit")
    delayed = job.checkpoint((0, 1))
    assert (delayed.function.run, delayed.args) == (run, ((0, 1),))


def test_the_end_of_a_log_is_told(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none") == ", and left no log"
    (tmp_path / "log").write_text("Traceback\n  File\nOtherMachine: this worker is on a card\n\n")
    assert last_words(tmp_path / "log") == ": OtherMachine: this worker is on a card"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("submitit")
    if lacks := slurm_cluster.missing():
        pytest.skip(f"no SLURM on this machine: {', '.join(lacks)}")
    folder = tmp_path_factory.mktemp("slurm")
    yield {**slurm_cluster.environment(folder), **slurm_cluster.up(folder)}
    slurm_cluster.down(folder)


def wait_for(what: object, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.mark.slurm
def test_a_run_is_left_a_job_killed_and_the_board_is_that_of_this_machine(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**cluster, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    words = ["--methods", "mimmu", "--suite", "smoke", "--metrics", *METRICS, "--set", "mimmu.epochs=40"]
    far = [*words, "--out", str(tmp_path / "far"), "--executor", "slurm", "--slurm", "time=20,grace=3"]
    run = RunConfig(("mimmu",), "smoke", metrics=METRICS, overrides={"mimmu": {"epochs": "40"}}, out=tmp_path / "far")
    plan = resolve(run)
    executor, folder = Executor(plan), RunFolder(plan.run)
    victim = next(i for i, unit in enumerate(units(plan)) if unit.cell == 2)
    delta = executor.stages.store.place("deltas", executor.stages.keys.delta(plan.cells[2]))
    lease = tmp_path / "far" / ".store" / ".leases" / f"deltas-{delta.name}"

    door = [sys.executable, "-u", "run_bench.py", *far]
    shell = subprocess.Popen(door, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             stdin=subprocess.DEVNULL,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    try:
        wait_for(lease.exists)  # it trains
        shell.send_signal(signal.SIGINT)
        told = shell.communicate(timeout=60)[0]
    finally:
        shell.kill()
    assert shell.returncode == 130, told
    assert "the run goes on" in told
    assert "--attach" in told

    (job,) = [job for job, places in (folder.state() or {})["jobs"].items() if victim in places]
    first = lease.read_text()
    subprocess.run(["scontrol", "requeue", job], check=True)  # as where it is preempted
    assert cli.main(far) == 2
    assert "jobs of this run are in the queue" in capsys.readouterr().out
    wait_for(lambda: lease.exists() and lease.read_text() not in ("", first))  # it trains again
    subprocess.run(["scancel", job], check=True)
    assert cli.main([*far, "--attach"]) == 0, capsys.readouterr().out
    jobs = Book(folder.state() or {})
    assert jobs.attempts == {place: 1 + (place == victim) for place in range(len(units(plan)))}

    files = ["smoke-pocket.csv", "smoke-pocket-cells.csv", "smoke-pocket-concepts.csv", "smoke-pocket.json"]
    before = {name: (tmp_path / "far" / name).read_bytes() for name in files}
    assert cli.main([*words, "--out", str(tmp_path / "far"), "--collect"]) == 0
    assert {name: (tmp_path / "far" / name).read_bytes() for name in files} == before
    assert cli.main([*words, "--out", str(tmp_path / "near"), "--workers", "1"]) == 0
    for name in files[:3]:
        one, other = (pd.read_csv(tmp_path / where / name) for where in ("far", "near"))
        pd.testing.assert_frame_equal(*(f.drop(columns=MEASURED, errors="ignore") for f in (one, other)))
    capsys.readouterr()
    assert cli.main([*far, "--seeds", "2", "--attach"]) == 2
    assert "no run of this command was begun here" in capsys.readouterr().out

    controls = ["--methods", "pretrained", *far[2 : far.index("--set")], *far[far.index("--out") :]]
    controls += ["--seeds", "2", "--attach"]
    both = resolve(RunConfig(("pretrained",), "smoke", metrics=METRICS, seeds=(0, 1), out=tmp_path / "far"))
    signed = signature(units(both))  # as if the shell had ended before sbatch was asked
    RunFolder(both.run).note({"jobs": {}, "signed": "of other code"})
    assert cli.main(controls) == 2
    assert "changed after this run began" in capsys.readouterr().out
    RunFolder(both.run).note({"jobs": {}, "signed": signed})
    assert cli.main(controls) == 0
    assert capsys.readouterr().out.count("/4] ") == 4  # two of them from the store
