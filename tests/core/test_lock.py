"""Claims that outlive no process and need no clock in common."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.core import lock


def test_one_process_holds_the_lock_and_others_wait(tmp_path: Path) -> None:
    inside, most, order = 0, 0, []

    def work(name: int) -> None:
        nonlocal inside, most
        with lock.held(tmp_path / "x"):
            inside += 1
            most = max(most, inside)
            order.append(name)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, sorted(order)) == (1, [*range(5)])
    assert not (tmp_path / "x").exists()


def test_timeout_names_the_owner(tmp_path: Path) -> None:
    def other() -> None:
        with pytest.raises(TimeoutError, match=f"is held by process {os.getpid()} on {os.uname().nodename}"):
            lock.held(tmp_path / "x", wait=0.05).__enter__()

    with lock.held(tmp_path / "x"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert lock.owner(tmp_path / "x") == "no process any more"
    with lock.held(tmp_path / "x", wait=0.05):
        pass


def test_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        from bench.core import lock
        claim = lock.held(Path(sys.argv[1]))
        claim.__enter__()
        os._exit(1)"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False, cwd=Path(__file__).parents[2])
    assert (tmp_path / "x").exists()
    with lock.held(tmp_path / "x", wait=10):
        pass


@pytest.mark.parametrize("exchanges", [True, False])  # network file systems can't exchange two files in one step
def test_lock_of_a_silent_host_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    monkeypatch.setattr(lock, "STALE", 0.5)
    if not exchanges:
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *given: False)
    with lock.held(tmp_path / "x"):
        said = (tmp_path / "x").read_text()
    away = said.replace(f"host={os.uname().nodename}", "host=elsewhere").replace(f"pid={os.getpid()}", "pid=1")
    (tmp_path / "x").write_text(away)
    began = time.monotonic()
    with lock.held(tmp_path / "x"):
        assert 0.4 < time.monotonic() - began < 10


def test_empty_lock_file_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE", 0.2)
    (tmp_path / "x").touch()  # who made it died at once
    with lock.held(tmp_path / "x"):
        pass


def test_renewed_lock_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE", 0.3)
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *given: False)
    inside = []

    def other() -> None:
        with lock.held(tmp_path / "x"):
            inside.append("other")

    with lock.held(tmp_path / "x"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(1.2)  # four times the age at which another would take over
        inside.append("own")
    thread.join()
    assert inside == ["own", "other"]


def test_lock_taken_in_the_meantime_is_put_back(tmp_path: Path) -> None:
    watch = lock._Watch(tmp_path / "x")
    (tmp_path / "x").write_text("old")
    watch.unchanged_for()
    (tmp_path / "x").unlink()
    (tmp_path / "x").write_text("new")
    watch.remove()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x", "new")]
