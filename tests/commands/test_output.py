"""What a command prints and writes where the reader goes away, or the disk is full: nothing half written, one line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import damage
from support.short_disk import largest_file, small_disk

from bench.commands import main
from bench.core.store import output_files
from bench.core.text import streams
from bench.worlds import World

ROOT = Path(__file__).parents[2]
GAP = str(ROOT / "leaderboards" / "reference" / "finegrained-pocket-cells.csv")
GONE = "the reader of the output is gone; the command goes on, and the rest of the output is left out\n"
SMOKE = ("--world", "tiny", "--suite", "smoke", "--methods", "pretrained", "--metrics", "ua")
TASK = "golden retriever"


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, whose output had no reader from the beginning."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        stderr = io.StringIO()
        patch.setattr(sys, "stderr", stderr)
        code = without_reader(patch, "run", *SMOKE, "--workers", "1", "--out", str(out))
    assert code == 0
    assert stderr.getvalue() == GONE
    assert len([*out.glob("smoke-tiny*")]) == 6
    return out


def without_reader(patch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """The exit code of a command that writes into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writing_to(writer, patch, *words)


def writing_to(descriptor: int, patch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    stream = io.TextIOWrapper(io.FileIO(descriptor, "w"))  # type: ignore[type-var]
    patch.setattr(sys, "stdout", stream)
    patch.setattr(sys, "__stdout__", stream)
    try:
        return main.main(words)
    except SystemExit as stop:
        return stop.code
    finally:
        streams.lost_output()
        patch.undo()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["run", "--help"], 0),
        (["tune", "--help"], 0),
        (["ls", "methods"], 0),
        (["gap", GAP], 0),
        (["prepare", "pocket"], 0),
        (["ls", "suites", "--world", "tinny"], 2),
        (["plan", *SMOKE], 0),
        (["collect", *SMOKE], 0),
        (["plan", "--world", "tiny", "--methods", "all", "--seeds", "3"], 0),
    ],
)
def test_command_ends_as_usual_where_nobody_reads(
    finished: Path, words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(finished)] if words[0] in ("plan", "collect") else []
    assert without_reader(monkeypatch, *words, *out) == code
    assert capsys.readouterr().err == GONE


@pytest.mark.slow
def test_process_without_reader_says_so_in_one_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "run_bench.py"), "gap", GAP]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, GONE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_output_on_a_full_disk_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert writing_to(os.open("/dev/full", os.O_WRONLY), monkeypatch, "ls", "methods") == main.FAILED
    said = "no output: No space left on device; the command goes on, and the rest of the output is left out\n"
    assert capsys.readouterr().err == said


def content(folder: Path) -> dict[str, bytes]:
    """Relative path -> content, for all files outside of the store."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".store" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("words", "to"),
    [
        (["collect"], None),
        (["pack"], "board.results.tar.xz"),
        (["strip", "--task", TASK, "--show", TASK], "strip.png"),
        (["export", f"pretrained/{TASK}"], "model"),
    ],
)
@pytest.mark.parametrize("size", [700])
def test_command_that_writes_goes_on_after_a_full_disk(
    finished: Path, words: list[str], to: str | None, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*words, *SMOKE, "--out", str(finished), *(["--to", str(tmp_path / to)] if to else [])]
    if to and to != "model":
        (tmp_path / to).write_text("an earlier file")
    before = {folder: content(folder) for folder in (finished, tmp_path)}
    with largest_file(size):
        assert main.main(arguments) == main.FAILED
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ")
    assert "can't be written (File too large" in line or "File too large" in line
    assert {folder: content(folder) for folder in before} == before
    assert not [*damage.temporary_files(finished), *damage.temporary_files(tmp_path)]
    assert main.main(arguments) == 0
    assert to is None or content(tmp_path) != before[tmp_path]


def test_folder_in_place_of_a_table_keeps_the_whole_earlier_board(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = finished / "smoke-tiny.html"
    report.unlink()
    report.mkdir()
    before = content(finished)
    assert main.main(["collect", *SMOKE, "--out", str(finished)]) == main.FAILED
    assert f"{report} can't be written (a folder is in its place)" in capsys.readouterr().out
    assert content(finished) == before
    report.rmdir()
    assert main.main(["collect", *SMOKE, "--out", str(finished)]) == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write into."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    with small_disk(str(folder), "ro"):
        yield folder


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: ["run", *SMOKE, "--out", folder],
        lambda folder: ["tune", "--world", "tiny", "--out", f"{folder}/below"],
        lambda folder: ["prepare", "natural", "--data", folder],
        lambda folder: ["pack", *SMOKE, "--to", f"{folder}/x.results.tar.xz"],
        lambda folder: ["export", f"pretrained/{TASK}", *SMOKE, "--to", f"{folder}/model"],
        lambda folder: ["strip", *SMOKE, "--task", TASK, "--show", TASK, "--to", f"{folder}/x.png"],
    ],
)
def test_folder_that_root_cannot_write_is_refused_first(
    world: World, made: Callable[[str], list[str]], read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(made(str(read_only))) == main.USAGE
    assert f"the folder {read_only} is not writable (Read-only file system)" in capsys.readouterr().out


@settings(max_examples=12)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=4), limit=st.integers(0, 3000))
def test_text_files_are_written_together_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("together")
    names = [f"{i}.csv" for i in range(len(sizes))]
    old, new = dict.fromkeys(names, "old"), {n: "x" * size for n, size in zip(names, sizes, strict=True)}
    output_files.write({folder / name: text for name, text in old.items()})
    fits = max(sizes) <= limit
    with largest_file(limit):
        try:
            output_files.write({folder / name: text for name, text in new.items()})
        except output_files.CannotWrite:
            assert not fits
        else:
            assert fits
    assert {path.name: path.read_text() for path in folder.iterdir()} == (new if fits else old)
