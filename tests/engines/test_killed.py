"""`kill -9` at random moments of a run of two workers: the same command then ends as if nothing had happened.

Fifty moments take about half an hour on two cores:

    pytest -m huge -n 0 tests/engines/test_killed.py

It kills five runs ten times each. So a command resumes what other resumed commands left.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support import child_runs, damage
from support.child_runs import ChildRuns

VICTIMS = ("parent", "worker", "group")
AT_THE_END = 0.15  # share of moments after the last cell, when the tables and the page are written
Moment = tuple[float, str]  # share of the entries that exist when it comes, 1 if the tables are written; who is killed


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> ChildRuns:
    return ChildRuns(tmp_path_factory.mktemp("plugin"), pipeline_folder)


@dataclass(frozen=True)
class Undisturbed:
    out: Path
    count: int  # of entries


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, runs: ChildRuns) -> Undisturbed:
    """A run that nothing has interrupted."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert runs.finish(out, "--workers", "2") == 0, child_runs.log(out)
    return Undisturbed(out, _count(out))


def _count(out: Path) -> int:
    """The number of entries, finished or not. Others may write meanwhile."""
    return sum(len(os.listdir(kind)) for kind in (out / ".store").glob("[!.]*"))


def _wait_for(run: psutil.Popen, out: Path, share: float, count: int, chance: random.Random) -> bool:
    """Wait for a moment. Returns whether it came before the run ended."""
    while run.poll() is None:
        with suppress(OSError):
            if _count(out) >= share * count:
                time.sleep(chance.random() * (1.5 if share >= 1 else 0.1))
                return run.poll() is None
        time.sleep(0.005)
    return False


def _kill(run: psutil.Popen, victim: str, chance: random.Random) -> list[psutil.Process]:
    """Kill a process or all. Returns the processes that must end."""
    family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    workers = [one for one in family[1:] if one.ppid() != run.pid or "spawn_main" in " ".join(one.cmdline())]
    if victim == "worker" and workers:
        worker = chance.choice(workers)
        worker.send_signal(signal.SIGKILL)
        return [worker]
    if victim == "group":
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.send_signal(signal.SIGKILL)
    run.wait(20)
    return family


def interrupted(
    runs: ChildRuns, whole: Undisturbed, out: Path, moments: list[Moment], chance: random.Random
) -> int:  # fmt: skip
    """Give a command until it has ended by itself, and kill it at each of `moments`. Returns how many came."""
    run, came = runs.start(out, "--workers", "2"), 0
    try:
        for share, victim in moments:
            if run.poll() is not None:
                run = runs.start(out, "--workers", "2")
            if _wait_for(run, out, share, whole.count, chance):
                must_end = _kill(run, victim, chance)
                assert child_runs.alive(must_end) == []
                came += 1
        code = run.wait(600) if run.poll() is None else -1
        if code < 0:
            code = runs.finish(out, "--workers", "2")
        assert code == 0, child_runs.log(out)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    told = child_runs.log(out)
    assert child_runs.tables(out) == child_runs.tables(whole.out), told
    assert sorted(os.listdir(out)) == sorted(os.listdir(whole.out))
    assert child_runs.entries(out) == child_runs.entries(whole.out), told
    assert damage.temporary_files(out) == [], told
    assert "damaged" not in told
    return came


def _moments(chance: random.Random, count: int) -> list[Moment]:
    shares = [1.0 if chance.random() < AT_THE_END else chance.random() for _ in range(count)]
    return [(share, chance.choice(VICTIMS)) for share in sorted(shares)]


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_tables(runs: ChildRuns, undisturbed: Undisturbed, tmp_path: Path) -> None:
    moments = [(0.6, "group")]
    assert interrupted(runs, undisturbed, tmp_path / "out", moments, random.Random(0)) == 1


@pytest.mark.slow
@pytest.mark.huge
@pytest.mark.parametrize("seed", range(5))
def test_run_killed_ten_times_resumes_to_the_same_tables(
    runs: ChildRuns, undisturbed: Undisturbed, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    assert interrupted(runs, undisturbed, tmp_path / "out", _moments(chance, 10), chance) >= 9
