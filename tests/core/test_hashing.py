"""A process reads each file once to know its content, and sees every change of it all the same."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.backbones import folder
from bench.cells.artifacts import Context
from bench.commands import main
from bench.core import digest
from bench.core.config import RunConfig
from bench.core.store import TENSORS, Store
from bench.plan import plugin_import
from bench.plan.plan import resolve
from bench.worlds import World
from bench.worlds.pocket import weights

KEY = {"method": "mimmu"}
File = tuple[int, int, int]  # inode, time of the last change, size


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[File]:
    """Every file that is hashed -> how often, by a process that knows none at first."""
    hashed, of_bytes = Counter[File](), digest._of_bytes

    def counted(path: Path) -> str:
        hashed[of(path)] += 1
        return of_bytes(path)

    monkeypatch.setattr(digest, "_of_bytes", counted)
    monkeypatch.setattr(digest, "_known", {})
    monkeypatch.setattr(plugin_import, "_run", {})  # plug-ins of other tests
    monkeypatch.setattr(digest, "CLOCK_STEP", -1.0)  # files of tests are hashed within a tick of being written
    return hashed


def of(path: Path) -> File:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def once(paths: list[Path]) -> Counter[File]:
    return Counter({of(path): 1 for path in paths})


def bytes_of(read: Counter[File]) -> int:
    return sum(size * times for (_, _, size), times in read.items())


def rewrite(file: Path) -> None:
    file.write_bytes(b"other")


def lengthen(file: Path) -> None:
    file.write_bytes(b"bytes and more")


def rewrite_with_the_old_times(file: Path) -> None:
    before = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_with_the_old_times(file: Path) -> None:
    before, other = file.stat(), file.with_name("other")
    other.write_bytes(b"other")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


CHANGES = (rewrite, lengthen, rewrite_with_the_old_times, replace_with_the_old_times)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_file_is_read_again(tmp_path: Path, read: Counter[File], change: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    os.utime(file, (1e9, 1e9))
    first = digest.of_file(file)
    assert digest.of_file(file) == digest.of_file(tmp_path / "." / "file") == first
    assert bytes_of(read) == 5
    change(file)
    assert digest.of_file(file) != first
    assert bytes_of(read) == 5 + file.stat().st_size


def test_moved_or_linked_file_is_read_once(tmp_path: Path, read: Counter[File]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"bytes")
    found = digest.of_file(tmp_path / "a" / "file")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "b" / "file")
    assert digest.of_file(tmp_path / "link") == digest.of_file(tmp_path / "b" / "file") == found
    assert bytes_of(read) == 5


def test_digest_of_a_file_just_written_is_not_remembered(
    tmp_path: Path, read: Counter[File], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "CLOCK_STEP", 3600.0)
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    assert digest.of_file(file) == digest.of_file(file)
    assert bytes_of(read) == 10


def test_stored_entry_is_read_once(tmp_path: Path, read: Counter[File]) -> None:
    store = Store(tmp_path)
    entry = store.put("deltas", KEY, {"x": torch.ones(1000)})
    for _ in range(3):
        assert store.get("deltas", KEY) == Store(tmp_path).get_or_compute("deltas", KEY, dict) == entry  # type: ignore[arg-type]
    assert read == once([entry.path / TENSORS])


@pytest.mark.parametrize("process", ["same", "another"])
@pytest.mark.parametrize("times", ["new", "old"])
def test_damaged_entry_is_found_in_this_process_and_in_the_next(
    tmp_path: Path, read: Counter[File], monkeypatch: pytest.MonkeyPatch, process: str, times: str
) -> None:
    store = Store(tmp_path)
    file = store.put("deltas", KEY, {"x": torch.ones(1000)}).path / TENSORS
    assert store.get("deltas", KEY) is not None
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"!")
    if times == "old":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    if process == "another":
        monkeypatch.setattr(digest, "_known", {})
    assert store.get("deltas", KEY) is None


def test_a_backbone_is_read_once_by_all_runs_of_a_process(world: World, tmp_path: Path, read: Counter[File]) -> None:
    plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path))
    assert len({Context(plan).content for _ in range(3)} | {folder.content(plan.folder)}) == 1
    assert read == once(folder.files(plan.folder))


def test_committed_weights_are_read_once(read: Counter[File]) -> None:
    for _ in range(2):
        weights.verify(weights.WEIGHTS, "pipeline")
        folder.content(weights.WEIGHTS / "pipeline")
    files = [file for file in (weights.WEIGHTS / "pipeline").rglob("*") if file.is_file()]
    assert read == once(files)


def test_run_reads_every_file_once(world: World, tmp_path: Path, read: Counter[File]) -> None:
    words = ["--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "drift", "--curve", "4",
             "--workers", "1", "--out", str(tmp_path)]  # fmt: skip
    for command, more in (("run", []), ("run", []), ("run", ["--metrics", "nra"]), ("plan", []), ("collect", [])):
        assert main.main([command, *words, *more]) == 0
    stored = list((tmp_path / ".store").glob(f"*/*/{TENSORS}"))
    assert len(stored) >= 4
    assert {of(file) for file in [*stored, *folder.files(Path(world.backbone()))]} <= read.keys()
    assert len(read) >= len(stored) + 3  # the snapshots too, whose tensors are not kept
    assert {*read.values()} == {1}
