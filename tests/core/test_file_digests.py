"""Digests of a data set that are kept on disk: what is kept, when it counts, and what damage does."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core import digest
from bench.core.contents import file_digests
from bench.core.contents.file_digests import FOLDER, NAME, FileDigests

OLD = 1e9  # seconds; a time at which no test runs


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Name -> how often a file is read. Digests are saved after every file, and files settle at once."""
    times, of_bytes = Counter[str](), digest._of_bytes

    def counted(path: Path) -> str:
        times[path.name] += 1
        return of_bytes(path)

    monkeypatch.setattr(digest, "_of_bytes", counted)
    monkeypatch.setattr(digest, "_known", {})
    monkeypatch.setattr(file_digests, "SAVED_BYTES", 0)
    monkeypatch.setattr(file_digests, "SETTLED", -1.0)
    return times


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two pictures."""
    folder = tmp_path / "data"
    (folder / "dogs").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / "dogs" / name).write_bytes(name.encode())
        os.utime(folder / "dogs" / name, (OLD, OLD))
    return folder


def anew(data: Path, name: str = "a.jpg", fresh: bool = False) -> str:
    """The digest of a picture, as a new process has it."""
    digest.forget()
    return FileDigests(data, fresh)(data / "dogs" / name)


def overwrite(file: Path) -> None:
    before = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    before, other = file.stat(), file.with_name("other")
    other.write_bytes(file.read_bytes()[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"!")


def touch(file: Path) -> None:
    os.utime(file, (OLD + 1, OLD + 1))


def test_kept_digests_serve_the_next_process(data: Path, read: Counter[str]) -> None:
    first = [anew(data, name) for name in ("a.jpg", "b.jpg")]
    assert [anew(data, name) for name in ("a.jpg", "b.jpg")] == first
    assert read == {"a.jpg": 1, "b.jpg": 1}
    assert first == [digest.of_file(data / "dogs" / name) for name in ("a.jpg", "b.jpg")]


def test_a_moved_data_folder_keeps_its_digests(data: Path, read: Counter[str]) -> None:
    first = anew(data)
    assert anew(data.rename(data.with_name("moved"))) == first
    assert read["a.jpg"] == 1


@pytest.mark.parametrize("change", [overwrite, replace, lengthen, touch])
def test_a_changed_file_is_read_again(data: Path, read: Counter[str], change: Callable[[Path], None]) -> None:
    first = anew(data)
    anew(data, "b.jpg")
    change(data / "dogs" / "a.jpg")
    assert (anew(data) == first) == (change is touch)
    anew(data, "b.jpg")
    assert read == {"a.jpg": 2, "b.jpg": 1}


def test_fresh_reads_a_file_again_whose_state_is_kept(data: Path, read: Counter[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    state = digest.state_of(data / "dogs" / "a.jpg")
    monkeypatch.setattr(digest, "state_of", lambda path: state)  # as on a disk that keeps inode and times
    first = anew(data)
    (data / "dogs" / "a.jpg").write_bytes(b"A.JPG")
    assert anew(data) == first
    assert anew(data, fresh=True) != first
    assert anew(data) != first
    assert read["a.jpg"] == 2


def test_a_file_that_changed_a_moment_ago_is_not_kept(data: Path, read: Counter[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(file_digests, "SETTLED", 3600.0)
    anew(data)
    anew(data)
    assert read["a.jpg"] == 2
    assert not (data / FOLDER).exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(data: Path, read: Counter[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    of_bytes = digest._of_bytes

    def changing(path: Path) -> str:
        found = of_bytes(path)
        lengthen(path)
        return found

    monkeypatch.setattr(digest, "_of_bytes", changing)
    first = anew(data)
    assert anew(data) != first


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_other_byte_of_the_kept_digests_is_found(
    data: Path, read: Counter[str], caplog: pytest.LogCaptureFixture, at: int, bit: int
) -> None:
    first, file = anew(data), data / FOLDER / NAME
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[at % len(whole)] ^= 1 << bit
    file.write_bytes(damaged)
    caplog.clear()
    read.clear()
    assert anew(data) == first
    same = damaged[at % len(whole)] in b" \n\t\r" and whole[at % len(whole)] in b" \n\t\r"  # space between the parts
    assert read["a.jpg"] == (0 if same else 1)
    assert any("damaged" in message for message in caplog.messages) != same


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b'{"files": 3, "digest": "x"}', b"\xff\xfe", b"[" * 100_000, b"{}"]
)
def test_a_damaged_file_of_digests_is_said_and_written_anew(
    data: Path, read: Counter[str], caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    first, file = anew(data), data / FOLDER / NAME
    file.write_bytes(content)
    assert anew(data) == first
    assert f"{file} is damaged" in caplog.text
    caplog.clear()
    assert anew(data) == first
    assert not caplog.text
    assert read["a.jpg"] == 2


def test_a_data_folder_that_can_not_be_written_works(data: Path, read: Counter[str]) -> None:
    (data / FOLDER).write_text("a file where the folder would be")  # also for root
    for fresh in (False, True):
        assert anew(data, fresh=fresh) == digest._of_bytes(data / "dogs" / "a.jpg")


def test_a_save_that_fails_leaves_nothing(data: Path, read: Counter[str]) -> None:
    (data / FOLDER / NAME / "in the way").mkdir(parents=True)
    assert anew(data)
    assert [one.name for one in (data / FOLDER).iterdir()] == [NAME]


def test_a_file_that_is_not_there_raises(data: Path, read: Counter[str]) -> None:
    with pytest.raises(FileNotFoundError):
        anew(data, "none.jpg")


SAVING = """
import sys, time
from pathlib import Path
from bench.core.contents import file_digests
file_digests.SAVED_BYTES = 0
data, begin = Path(sys.argv[1]), float(sys.argv[3])
digest_of = file_digests.FileDigests(data)
while time.time() < begin:
    time.sleep(0.001)
for file in sorted(data.glob(sys.argv[2])):
    digest_of(file)
"""


@pytest.mark.slow
def test_processes_that_save_at_once_lose_nothing(data: Path) -> None:
    for process in "cd":
        for number in range(20):
            (data / f"{process}{number}.jpg").write_bytes(f"{process}{number}".encode())
    time.sleep(file_digests.SETTLED + 0.1)
    words = [sys.executable, "-c", SAVING, str(data)]
    begin = str(time.time() + 6)  # importing torch takes a while
    processes = [subprocess.Popen([*words, f"{process}*.jpg", begin]) for process in "cd"]
    assert [process.wait() for process in processes] == [0, 0]
    kept = json.loads((data / FOLDER / NAME).read_text())["files"]
    assert {name: found[-1] for name, found in kept.items()} == {
        file.name: digest.of_file(file) for file in data.glob("*.jpg")
    }
    assert {one.name for one in (data / FOLDER).iterdir()} == {NAME}
