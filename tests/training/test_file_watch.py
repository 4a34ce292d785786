"""Which files a plug-in reads, however it opens them."""

import json
import mmap
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
import torchvision
from PIL import Image
from safetensors import safe_open

from bench.training import file_watch

Read = Callable[[Path], object]


def by_descriptor(file: Path) -> bytes:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, 1)
    finally:
        os.close(descriptor)


def mapped(file: Path) -> bytes:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view[:]


def in_a_thread(file: Path) -> None:
    thread = threading.Thread(target=file.read_bytes)
    thread.start()
    thread.join()


def in_a_link(file: Path) -> bytes:
    link = file.with_name("link")
    link.symlink_to(file)
    return link.read_bytes()


def in_a_hard_link(file: Path) -> bytes:
    os.link(file, file.with_name("hard"))
    return file.with_name("hard").read_bytes()


def from_its_folder(file: Path) -> str:
    before = Path.cwd()
    os.chdir(file.parent)
    try:
        return Path(file.name).read_text(errors="ignore")
    finally:
        os.chdir(before)


def to_append(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.read()


READERS: dict[str, tuple[str, Read]] = {
    "open": ("a.json", lambda file: json.load(file.open())),
    "os.open": ("a.json", by_descriptor),
    "a path in bytes": ("a.json", lambda file: os.close(os.open(os.fsencode(file), os.O_RDONLY))),
    "pathlib": ("a.json", Path.read_text),
    "read and write": ("a.json", to_append),
    "mmap": ("a.json", mapped),
    "a thread": ("a.json", in_a_thread),
    "a link": ("a.json", in_a_link),
    "a hard link": ("a.json", in_a_hard_link),
    "a relative path": ("a.json", from_its_folder),
    "a copy": ("a.json", lambda file: shutil.copy(file, file.with_name("copy")).read_text()),
    "np.load": ("a.npy", np.load),
    "np.load mmap": ("a.npy", lambda file: np.load(file, mmap_mode="r")),
    "np.memmap": ("a.npy", lambda file: np.memmap(file, mode="r")),
    "np.fromfile": ("a.npy", np.fromfile),
    "torch.load": ("a.pt", torch.load),
    "torch.load mmap": ("a.pt", lambda file: torch.load(file, mmap=True)),
    "torch.from_file": ("a.npy", lambda file: torch.from_file(str(file), size=1)),
    "storage": ("a.npy", lambda file: torch.UntypedStorage.from_file(str(file), False, 4)),
    "safetensors.torch": ("a.safetensors", lambda file: safetensors.torch.load_file(file)),
    "safetensors.numpy": ("a.safetensors", lambda file: safetensors.numpy.load_file(file)),
    "safetensors.safe_open": ("a.safetensors", lambda file: safetensors.safe_open(file, "pt").keys()),
    "safe_open by name": ("a.safetensors", lambda file: safe_open(filename=file, framework="pt").keys()),
    "sqlite": ("a.db", lambda file: sqlite3.connect(file).execute("select * from t").fetchall()),
    "pandas": ("a.csv", pd.read_csv),
    "PIL": ("a.png", lambda file: Image.open(file).load()),
    "torchvision": ("a.png", lambda file: torchvision.io.read_image(str(file))),
    "exec": ("a.py", lambda file: exec(file.read_text(), {})),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file of each kind, older than every test."""
    folder = tmp_path_factory.mktemp("read")
    (folder / "a.json").write_text("{}")
    (folder / "a.py").write_text("x = 1\n")
    (folder / "a.csv").write_text("a,b\n1,2\n")
    np.save(folder / "a.npy", np.zeros(4))
    torch.save({"x": torch.zeros(2)}, folder / "a.pt")
    safetensors.torch.save_file({"x": torch.zeros(2)}, folder / "a.safetensors")
    connection = sqlite3.connect(folder / "a.db")
    connection.execute("create table t(x)")
    connection.close()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    return folder


@pytest.mark.parametrize("how", READERS)
def test_every_way_to_read_a_file_is_seen(files: Path, tmp_path: Path, how: str) -> None:
    name, read = READERS[how]
    file = Path(shutil.copy2(files / name, tmp_path))
    with file_watch.watching([__name__]) as reads:
        read(file)
    copy = {tmp_path / "copy"} if how == "a copy" else set()  # its time is that of the file
    found = reads.undeclared([])
    assert set(found) - copy == {tmp_path / "hard" if how == "a hard link" else file}
    assert reads.undeclared([file, file.with_name("hard")], copy) == []
    assert reads.undeclared([tmp_path]) == []
    assert str(found[0]) in file_watch.warning(found)


def test_nothing_is_seen_after_the_block_and_nothing_stays_replaced(files: Path) -> None:
    before = safetensors.safe_open, safetensors.torch.safe_open, torch.jit.load, torch.from_file, safe_open
    with file_watch.watching([__name__]) as reads:
        assert safe_open is not before[0]
    (files / "a.json").read_text()
    assert not reads.paths
    assert (safetensors.safe_open, safetensors.torch.safe_open, torch.jit.load, torch.from_file, safe_open) == before
    assert "from_file" not in vars(torch.UntypedStorage)


def test_what_the_block_wrote_is_not_its_input(tmp_path: Path) -> None:
    with file_watch.watching() as reads:
        (tmp_path / "text").write_text("x")
        (tmp_path / "text").read_text()
        torch.save({"x": torch.zeros(2)}, tmp_path / "tensors")  # written by compiled code
        torch.load(tmp_path / "tensors")
        (tmp_path / "new").mkdir()
        np.save(tmp_path / "new" / "a.npy", np.zeros(2))
        np.load(tmp_path / "new" / "a.npy")
    assert reads.undeclared([]) == []


def test_what_is_not_there_or_only_written_is_no_input(files: Path, tmp_path: Path) -> None:
    old = Path(shutil.copy2(files / "a.json", tmp_path))
    with file_watch.watching() as reads:
        with pytest.raises(FileNotFoundError):
            (tmp_path / "none").read_text()
        with old.open("a") as stream:
            stream.write("more")
    assert reads.undeclared([]) == []


def test_python_the_system_and_installed_packages_do_not_count() -> None:
    with file_watch.watching() as reads:
        Path("/proc/self/status").read_text()
        Path(os.__file__).read_text()
        Path(pytest.__file__).read_text()
        Path(file_watch.__file__).read_text()
        sys.modules.pop("colorsys", None)
        import colorsys

        assert colorsys
    assert reads.undeclared([]) == []
