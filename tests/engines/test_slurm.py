"""The SLURM engine: its rules here, and itself on a SLURM cluster of two nodes (marker `slurm`)."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from support import slurm_cluster
from support.afar import BOARD, LITTLE, METRICS, OTHER_KIND, WORDS, Afar, wait_for
from support.boards import only
from support.results import cell_result

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.engines import Settings, slurm, slurm_queue, worker
from bench.engines.base import WorkOutcome
from bench.engines.run_folder import OtherMachine, RunFolder
from bench.engines.slurm import Slurm, _Watched
from bench.engines.slurm_queue import Book, Job, Queue, last_words, minutes
from bench.plan.plan import resolve
from bench.plan.work_graph import signature, work_items
from bench.worlds import World

ROOT = Path(__file__).parents[2]
MEASURED = ["seconds", "peak_bytes"]  # what no two runs share


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", 90), ("90:01", 91), ("4:00:00", 240), ("1-12", 2160), ("1-0:30", 1470), ("2-1:2:3", 2943)],
)
def test_time_limits_are_read_as_sbatch_does(text: str, found: int) -> None:
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "4h"])
def test_invalid_time_limit_raises(text: str) -> None:
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


def test_book_records_jobs_and_attempts() -> None:
    book = Book({})
    book.give("7_0", (0, 1))
    book.give("7_1", (2,))
    book.give("9", (1,))
    book.refuse(1, "n2")
    book.refuse(1, "n2")
    book.give("10", (1,))
    assert (book.job_of(0), book.job_of(1)) == ("7_0", "10")
    assert [book.attempts(place) for place in range(3)] == [1, 1, 1]  # those refused were none
    assert book.excluded == ["n2"]
    again = Book(json.loads(json.dumps(book.state("s"))))
    assert (again.jobs, again.excluded, again.refused, again.given) == (book.jobs, ["n2"], {1: 2}, {0, 1, 2})
    assert [again.attempts(place) for place in range(3)] == [1, 1, 1]
    assert again.job_of(1) == "10"


class Shown:
    """A queue that a test fills, and that notes what is submitted."""

    name, refusal, nowhere, ended = "lethe-test", "no room", False, False

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.submitted: list[tuple[int, ...]] = []
        self.full = False

    def alive(self) -> dict[str, str]:
        return self.jobs

    def cancel(self) -> None:
        self.ended = True

    def exclude(self, book: Book) -> None:
        self.excluded = [*book.excluded]

    def submit(self, job: Job, book: Book, parts: list, after: object = ()) -> tuple[list[str], list]:
        if self.full:
            return [], [*parts]
        for part in parts:
            self.submitted.append(part)
            book.give(name := f"{len(book.jobs)}_0", part)
            self.jobs[name] = "RUNNING"
        job.folder.note(book.state(job.signed))
        return [], []


@pytest.fixture
def begun(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[_Watched, Shown, list]:
    """A run of seven units, a job each, all of them running; and its clock."""
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    clock = [100.0]
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", metrics=("ua",), out=tmp_path))
    queue = Shown()
    watched = _Watched(Slurm(Settings(retries=1)), Executor(plan), RunFolder(plan.run), queue)  # type: ignore[arg-type]
    assert [*watched._begin()] == []
    assert sorted(queue.submitted) == [(place,) for place in range(len(watched.pieces))]
    queue.submitted.clear()
    return watched, queue, clock


def test_units_are_lost_only_when_their_last_job_was_gone_for_a_while(begun: tuple) -> None:
    watched, queue, clock = begun
    job = watched.book.job_of(0)
    del queue.jobs[job]
    assert [*watched._look(queue.jobs)] == []
    clock[0] += 29
    queue.jobs[job] = "PENDING"  # it was only requeued
    assert [*watched._look(queue.jobs)] == []
    del queue.jobs[job]
    assert [*watched._look(queue.jobs)] == []
    clock[0] += 31
    queue.full = True
    for _ in range(3):
        assert [*watched._look(queue.jobs)] == []
    assert watched.waiting == [(0,)]  # once, however often it is looked for
    queue.full = False
    assert [*watched._look(queue.jobs)] == []
    assert (queue.submitted, watched.waiting) == ([(0,)], [])
    assert watched.book.attempts(0) == 2


def test_a_cell_whose_jobs_are_lost_is_given_up_with_its_log(begun: tuple) -> None:
    watched, queue, clock = begun
    place, index = max(watched.cells.items())
    for _ in range(2):
        queue.jobs.pop(watched.book.job_of(place))
        assert [*watched._look(queue.jobs)] == []
        clock[0] += 31
        found = [*watched._look(queue.jobs)]
    ((cell, result),) = found
    assert (cell, result.status) == (index, "failed")
    assert "ended without a result, and left no log (tried 2 times)" in result.reason
    assert result.traceback.endswith(f"{watched.book.job_of(place)}_0_log.err")


def test_a_node_of_another_kind_costs_no_attempt_and_gets_no_more(begun: tuple) -> None:
    watched, queue, _ = begun
    place = max(watched.cells)
    for node in ("n1", "n2"):
        watched.folder.put(place, refused(node))
        assert [*watched._look(queue.jobs)] == []
    assert queue.submitted == [(place,), (place,)]
    assert queue.excluded == ["n1", "n2"]  # of jobs that were queued already
    noted = Book(watched.folder.state())
    assert (noted.attempts(place), noted.excluded) == (1, ["n1", "n2"])  # for a shell that attaches
    assert (watched.book.attempts(place), watched.book.excluded) == (1, ["n1", "n2"])
    watched.folder.put(place, refused("n3"))
    ((_, result),) = watched._look(queue.jobs)
    assert result.reason == "this worker is on another card"  # nowhere to do it


def test_cells_fail_with_the_reason_when_every_node_has_refused(begun: tuple) -> None:
    watched, queue, _ = begun
    watched.folder.put(0, refused("n1"))
    queue.full = queue.nowhere = True  # sbatch: no node is left
    found = dict(watched._look(queue.jobs))
    assert queue.ended  # jobs that were queued would wait for ever
    assert sorted(found) == sorted(watched.cells.values())
    assert {result.reason for result in found.values()} == {"this worker is on another card"}


def refused(node: str) -> WorkOutcome:
    return WorkOutcome(refused_by=node, reason="this worker is on another card")


def test_retries_respect_the_number_of_workers(begun: tuple) -> None:
    watched, queue, clock = begun
    watched.settings = Settings(workers=len(queue.jobs), retries=1)
    lost = [watched.book.job_of(place) for place in (0, 1)]
    for job in lost:
        del queue.jobs[job]
    watched._look(queue.jobs)
    list(watched._look(queue.jobs))
    clock[0] += 31
    queue.jobs["other"] = "PENDING"
    assert [*watched._look(queue.jobs)] == []
    assert (queue.submitted, watched.waiting) == ([(0,)], [(1,)])
    watched.folder.put(1, WorkOutcome())  # it came late
    queue.jobs.pop("other")
    assert [*watched._look(queue.jobs)] == []
    assert (queue.submitted, watched.waiting) == ([(0,)], [])


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where a command of that name leaves the scripts that it is given, and answers as SLURM's does."""
    pytest.importorskip("submitit")
    (folder := tmp_path / "bin").mkdir()
    told = f'n=$(ls {folder} | wc -l); cp "$1" "{folder}/$n.sh"; echo "Submitted batch job $n"'
    for name in ("sbatch", "srun"):
        (folder / name).write_text(f"#!/bin/bash\n{told}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def directives(folder: Path) -> list[dict[str, str]]:
    files = sorted(folder.glob("*.sh"), key=lambda file: int(file.stem))
    lines = [[line[10:] for line in f.read_text().splitlines() if line.startswith("#SBATCH --")] for f in files]
    return [dict(line.partition("=")[::2] for line in each) for each in lines]


@pytest.mark.parametrize("workers", [None, 1])
def test_arrays_run_one_after_another_with_a_worker_limit(
    sbatch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    monkeypatch.setattr(slurm_queue, "MAX_ARRAY_JOBS", 2)
    queue = Queue("lethe-x", 20, workers, {"partition": "gpu", "exclude": "n9"})
    book, job = Book({"excluded": ["n1"]}), Job(RunConfig(out=tmp_path), RunFolder(RunConfig(out=tmp_path)), "s")
    arrays, left = queue.submit(job, book, [(0,), (1,), (2,), (3,), (4,)], ["77"])
    assert left == []
    asked = directives(sbatch)
    assert [one["dependency"] for one in asked] == [
        "afterany:77", *(f"afterany:{n}" for n in (arrays[:2] if workers else ["77", "77"]))
    ]  # fmt: skip
    assert {(one["exclude"], one["partition"], one["job-name"]) for one in asked} == {("n9,n1", "gpu", "lethe-x")}
    assert [one.get("array") for one in asked] == [f"0-1%{workers or 2}", f"0-1%{workers or 2}", None]
    assert [book.job_of(place).partition("_")[0] for place in range(5)] == [arrays[i] for i in (0, 0, 1, 1, 2)]


def test_a_node_that_refuses_says_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*given: object) -> WorkOutcome:
        raise OtherMachine("it is on another card")

    monkeypatch.setattr(worker, "work", work)
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    run = RunConfig(out=tmp_path)
    folder = RunFolder(run)
    Job(run, folder, "s")((3,))
    assert folder.news(())[3] == WorkOutcome(refused_by="n2", reason="it is on another card")


def test_job_writes_each_outcome_and_skips_finished_work_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, did = RunConfig(out=tmp_path), []

    def work(run: RunConfig, folder: RunFolder, place: int, signed: str) -> WorkOutcome:
        did.append(place)
        return WorkOutcome(cell_result("mimmu", "a task", seed=place))

    monkeypatch.setattr(worker, "work", work)
    folder = RunFolder(run)
    folder.put(1, work(run, folder, 1, "s"))
    did.clear()
    job = Job(run, folder, "s")
    job((0, 1, 2))
    assert did == [0, 2]
    assert {place: outcome.result.seed for place, outcome in folder.news(()).items()} == {0: 0, 1: 1, 2: 2}
    pytest.importorskip("submitit")
    delayed = job.checkpoint((0, 1))
    assert (delayed.function.run, delayed.args) == (run, ((0, 1),))


def test_last_lines_of_a_log_are_reported(tmp_path: Path) -> None:
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


@pytest.mark.slurm
def test_a_run_is_left_a_job_killed_and_the_board_is_that_of_this_machine(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**cluster, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    far = [*WORDS, "--out", str(tmp_path / "far"), "--executor", "slurm", "--slurm", "time=20,grace=3"]
    run = Afar(tmp_path / "far")
    door = [sys.executable, "-u", "run_bench.py", *far]
    shell = subprocess.Popen(door, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             stdin=subprocess.DEVNULL,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    try:
        wait_for(run.lease.exists, shell)  # it trains
        shell.send_signal(signal.SIGINT)
        told = shell.communicate(timeout=60)[0]
    finally:
        shell.kill()
    assert shell.returncode == 130, told
    assert "the run continues" in told
    assert "--attach" in told

    (job,) = [job for job, places in (run.folder.state() or {})["jobs"].items() if run.victim in places]
    first = run.lease.read_text()
    subprocess.run(["scontrol", "requeue", job], check=True)  # as where it is preempted
    assert main.main(far) == 2
    assert "jobs of this run are in the queue" in capsys.readouterr().out
    wait_for(lambda: run.lease.exists() and run.lease.read_text() not in ("", first))  # it trains again
    subprocess.run(["scancel", job], check=True)
    assert main.main([*far, "--attach"]) == 0, capsys.readouterr().out
    book = Book(run.folder.state() or {})
    places = range(len(run.units))
    assert [book.attempts(place) for place in places] == [1 + (place == run.victim) for place in places]

    before = run.board()
    assert main.main(["collect", *WORDS, "--out", str(tmp_path / "far")]) == 0
    assert run.board() == before
    assert main.main([*WORDS, "--out", str(tmp_path / "near"), "--workers", "1"]) == 0
    for ending in BOARD[:3]:
        one, other = (pd.read_csv(only(tmp_path / where, ending)) for where in ("far", "near"))
        pd.testing.assert_frame_equal(*(f.drop(columns=MEASURED, errors="ignore") for f in (one, other)))
    capsys.readouterr()
    assert main.main([*far, "--seeds", "2", "--attach"]) == 2
    assert "no run of this command was begun here" in capsys.readouterr().out

    controls = ["--methods", "pretrained", *far[2 : far.index("--set")], *far[far.index("--out") :]]
    controls += ["--seeds", "2", "--attach"]
    both = resolve(RunConfig(("pretrained",), "smoke", metrics=METRICS, seeds=(0, 1), out=tmp_path / "far"))
    signed = signature(
        work_items(both), Executor(both).outcomes.signature
    )  # as if the shell had ended before sbatch was asked
    RunFolder(both.run).note({"jobs": {}, "signed": "of other code"})
    assert main.main(controls) == 2
    assert "changed after this run began" in capsys.readouterr().out
    RunFolder(both.run).note({"jobs": {}, "signed": signed})
    assert main.main(controls) == 0
    assert capsys.readouterr().out.count("/4] ") == 4  # two of them from the store


@pytest.mark.huge
@pytest.mark.slurm
def test_a_node_of_another_kind_leaves_its_cells_to_the_other(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**cluster, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    far = [*LITTLE, "--out", str(tmp_path), "--plugin", OTHER_KIND, "--retries", "0"]
    code = main.main([*far, "--executor", "slurm", "--slurm", "time=20,grace=3"])
    assert code == 0, capsys.readouterr().out
    assert pd.read_csv(only(tmp_path, "-cells.csv"))["status"].tolist() == ["ok"] * 3
    (folder,) = (tmp_path / ".store" / "runs").iterdir()
    book = Book(json.loads((folder / "state.json").read_text()))
    assert len(book.excluded) == 1  # whichever came second
    assert all(book.attempts(place) == 1 for place in book.given)

    monkeypatch.setenv("LETHE_TEST_OTHERS", "12")  # and now both are other than the store's, which is that of this host
    capsys.readouterr()
    assert main.main([*LITTLE, "--out", str(tmp_path / "both"), "--plugin", OTHER_KIND]) == 0
    both = [*LITTLE, "--out", str(tmp_path / "both"), "--plugin", OTHER_KIND, "--seeds", "2"]
    code = main.main([*both, "--executor", "slurm", "--slurm", "time=20,grace=3"])
    assert code == 1, capsys.readouterr().out
    cells = pd.read_csv(only(tmp_path / "both", "-cells.csv")).set_index("seed")
    assert cells.loc[0, "status"].tolist() == ["ok"] * 3
    assert cells.loc[1, "status"].tolist() == ["failed"] * 3
    assert cells.loc[1, "reason"].str.contains("this worker is on another card").all(), cells["reason"].tolist()
