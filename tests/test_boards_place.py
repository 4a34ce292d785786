"""Git keeps the boards that the repository ships, and ignores those that a run writes beside them."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IN_GIT = (ROOT / ".git").exists()


def is_ignored(path: str) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT).returncode == 0


@pytest.mark.skipif(not IN_GIT, reason="this copy of the code is no git checkout")
@pytest.mark.parametrize("name", ["finegrained-pocket.csv", "mine.html", "other/board.json", ".store/images/x"])
def test_git_ignores_what_a_run_writes(name: str) -> None:
    assert is_ignored(f"leaderboards/{name}")


@pytest.mark.skipif(not IN_GIT, reason="this copy of the code is no git checkout")
@pytest.mark.parametrize(
    "name", ["README.md", "reference/finegrained-pocket.csv", "reference/new.html", "published/x.csv"]
)
def test_git_keeps_the_reference_boards(name: str) -> None:
    assert not is_ignored(f"leaderboards/{name}")


def test_no_board_lies_where_runs_write_theirs() -> None:
    listed = subprocess.run(["git", "ls-files", "leaderboards"], cwd=ROOT, capture_output=True, text=True).stdout
    assert [name for name in listed.split() if name.count("/") == 1] in ([], ["leaderboards/README.md"])
