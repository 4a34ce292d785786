"""Runs of the tiny world in processes of their own, as a user starts them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from support import plugin_files

ROOT = Path(__file__).parents[2]
MEASURED = {"seconds", "seconds_all", "peak_bytes"}  # columns that differ between two runs
SMOKE = (
    "--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "drift", "--curve", "2",
    "--set", "mimmu.epochs=2", "mimmu.batch_size=4",
)  # fmt: skip


class ChildRuns:
    """Starts commands on the tiny world.

    Args:
        folder: for the plug-in file.
        pipeline: the tiny pipeline.
    """

    def __init__(self, folder: Path, pipeline: Path) -> None:
        self._plugin = plugin_files.save(folder, plugin_files.TINY, "tiny_world.py")
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._environment = {**os.environ, "PYTHONPATH": paths, "LETHE_TINY": str(pipeline), "OMP_NUM_THREADS": "1"}

    def start(self, out: Path, *words: str, command: str = "run", **options: object) -> subprocess.Popen[bytes]:
        """Start a command on the store and the tables of `out`. What it prints is added to `out`.log."""
        line = [sys.executable, str(ROOT / "run_bench.py"), command, *SMOKE, "--plugin", str(self._plugin)]
        line += ["--out", str(out), *(["--retries", "9"] if command == "run" else []), *words]
        with out.with_name(f"{out.name}.log").open("ab") as log:
            return subprocess.Popen(
                line, stdout=log, stderr=log, cwd=ROOT, env=self._environment, start_new_session=True,
                **options,  # type: ignore[call-overload]
            )  # fmt: skip

    def note(self, written: Path) -> None:
        """Let the commands that are started from now on add a line to a file for each entry that they compute."""
        self._environment["LETHE_WRITTEN"] = str(written)

    def finish(self, out: Path, *words: str, command: str = "run") -> int:
        """Run a command to its end, and return its exit code."""
        return self.start(out, *words, command=command).wait(600)


def log(out: Path) -> str:
    """What the commands on `out` printed."""
    return out.with_name(f"{out.name}.log").read_text(errors="replace")


def tables(out: Path) -> dict[str, object]:
    """Name -> content of every table of a folder and of its description, without what is measured anew each time."""
    found: dict[str, object] = {file.name: file.read_text() for file in out.glob("*.json")}
    for file in out.glob("*.csv"):
        with file.open(newline="") as stream:
            rows = [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(stream)]
        found[file.name] = rows
    return found


def entries(out: Path) -> list[str]:
    """Relative paths of the files of all entries in a store, finished or not."""
    store = out / ".store"
    return sorted(path.relative_to(store).as_posix() for path in store.glob("*/*/*"))


def alive(processes: Sequence[psutil.Process], seconds: float = 20) -> list[psutil.Process]:
    """Those of `processes` that have not ended after some seconds; a process that ended counts as such if nobody waits
    for it."""
    left = psutil.wait_procs(processes, timeout=0)[1]
    for _ in range(int(seconds * 10)):
        left = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        psutil.wait_procs(left, timeout=0.1)
    return left
