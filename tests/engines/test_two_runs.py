"""Several commands use one store at the same time. They take minutes:

pytest -m huge -n 0 tests/engines/test_two_runs.py
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support import child_runs, damage
from support.child_runs import ChildRuns

pytestmark = [pytest.mark.slow, pytest.mark.huge]  # tests/core/test_store.py has a short one
SHARED = ("results", "failures")  # each run may write them: they are copies of what the store has


@pytest.fixture
def runs(tmp_path: Path, pipeline_folder: Path) -> ChildRuns:
    return ChildRuns(tmp_path / "plugin", pipeline_folder)


def twice(written: Path) -> list[str]:
    """The entries that were computed more than once."""
    counts = Counter(written.read_text().split())
    return sorted(name for name, count in counts.items() if count > 1 and name.partition("/")[0] not in SHARED)


def test_commands_at_the_same_time_compute_each_entry_once(runs: ChildRuns, tmp_path: Path) -> None:
    out, alone, archive = tmp_path / "out", tmp_path / "alone", tmp_path / "a.results.tar.xz"
    runs.note(tmp_path / "written")
    both = [runs.start(out, "--workers", count) for count in ("2", "1")]
    while any(run.poll() is None for run in both):  # each of these may find nothing, something or everything
        assert runs.finish(out, command="collect") in (0, 1, 2)
        assert runs.finish(out, "--to", str(archive), command="pack") in (0, 1, 2)
    assert [run.wait() for run in both] == [0, 0], child_runs.log(out)
    assert twice(tmp_path / "written") == []
    assert runs.finish(out, "--to", str(archive), command="pack") == 0
    assert runs.finish(alone, "--workers", "1", "--results", str(archive)) == 0
    assert child_runs.tables(out) == child_runs.tables(alone)
    told = child_runs.log(out)
    assert "Traceback" not in told
    assert "damaged" not in told
    assert damage.temporary_files(tmp_path) == []


@pytest.mark.parametrize("later", range(3))
def test_forced_run_and_overlapping_run_at_the_same_time_end_well(runs: ChildRuns, tmp_path: Path, later: int) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    more = ("--methods", "mimmu", "salun", "--seeds", "2")
    assert runs.finish(alone) == 0
    both = [runs.start(out, "--workers", "2"), runs.start(out, *more, "--workers", "2")]
    for _ in range(1 + later):
        runs.finish(out, command="plan")  # takes a moment
    both.append(runs.start(out, "--force"))
    assert [run.wait(600) for run in both] == [0, 0, 0], child_runs.log(out)
    assert "Traceback" not in child_runs.log(out)
    for words in (more, ()):
        assert runs.finish(out, *words, command="collect") == 0
    assert child_runs.tables(out) == child_runs.tables(alone)
    assert damage.temporary_files(out) == []
