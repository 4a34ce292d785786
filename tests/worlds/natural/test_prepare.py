"""Preparing the photographs from miniature archives on a server of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import miniature
import pytest
from rich.console import Console
from support.website import Site, serve

from bench.worlds.downloads import obtain as obtaining
from bench.worlds.downloads.source import Source
from bench.worlds.natural.photographs.prepare import prepare
from bench.worlds.natural.photographs.reader import DOMAINS, read
from bench.worlds.natural.photographs.sources import SOURCES

MEMBERS = {  # what each official archive holds, beside the classes' folders
    "images.tar": ["stanford-dogs/Images"],
    "lists.tar": ["stanford-dogs/train_list.mat", "stanford-dogs/test_list.mat"],
    "102flowers.tgz": ["flowers-102/jpg"],
    "CUB_200_2011.tgz": ["CUB_200_2011"],
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that are published, by name, in miniature."""
    whole = miniature.write(tmp_path_factory.mktemp("whole"), per_class_train=1, per_class_test=1, side=8)
    files = {name: (whole / "flowers-102" / name).read_bytes() for name in ("imagelabels.mat", "setid.mat")}
    for name, members in MEMBERS.items():
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz" if name.endswith("tgz") else "w") as archive:
            for member in members:
                archive.add(whole / member, Path(member).name)
            if name == "CUB_200_2011.tgz":  # lies beside the folder in the official archive too
                note = tarfile.TarInfo("attributes.txt")
                archive.addfile(note, io.BytesIO())
        files[name] = stream.getvalue()
    return files


@pytest.fixture
def site(packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site(dict(packed))) as site:
        yield site


@pytest.fixture
def sources(site: Site) -> list[Source]:
    """The official table, pointed at the server, with the miniatures' sizes and digests."""
    return [
        dataclasses.replace(
            source,
            url=f"{site.url}/{source.file}",
            size=len(site.files[source.file]),
            sha256=hashlib.sha256(site.files[source.file]).hexdigest(),
        )
        for source in SOURCES
    ]


def of(domain: str, sources: list[Source]) -> list[Source]:
    return [source for source in sources if source.domain == domain]


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=160, file=io.StringIO())


def test_all_is_downloaded_unpacked_and_read(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    assert prepare(tmp_path / "data", console, sources=sources)
    for domain in DOMAINS:
        assert len(read(domain, tmp_path / "data").test) == {"dogs": 120, "flowers": 102, "birds": 200}[domain]
    top = {path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").glob("*")}
    assert top == {"stanford-dogs", "flowers-102", "CUB_200_2011"}, "no archive, part, scratch folder or stray file"
    dogs = {path.name for path in (tmp_path / "data" / "stanford-dogs").iterdir()}
    assert dogs == {"Images", "train_list.mat", "test_list.mat"}
    said = console.export_text()
    assert "Stanford Dogs: Images missing" in said
    assert "120 / 120" in said
    assert "a part: officially 12000 / 8580" in said
    assert "Still to be had" not in said

    asked = len(site.asked)
    assert prepare(tmp_path / "data", console, sources=sources)
    assert len(site.asked) == asked, "what is there is not asked for again"
    assert "CUB-200-2011: CUB_200_2011 there" in console.export_text()

    (tmp_path / "data" / "CUB_200_2011" / "images.txt").unlink()
    assert not prepare(tmp_path / "data", console, sources=sources), "damaged data is not called ready"
    said = console.export_text()
    assert "can't be read" in said
    assert f"{tmp_path / 'data' / 'CUB_200_2011' / 'images.txt'}: no such file" in said


def test_without_downloads_it_says_what_to_put_where(tmp_path: Path, console: Console) -> None:
    assert not prepare(tmp_path, console, download=False)
    said = console.export_text()
    for source in SOURCES:
        assert source.url in said
        assert f"as {tmp_path / source.folder / source.file}, " in said
    assert "793.6 MB" in said
    assert said.count("missing") >= len(SOURCES)
    assert list(tmp_path.iterdir()) == []


def test_archives_put_there_by_hand_are_unpacked_and_kept(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    for source in of("flowers", sources):
        (tmp_path / source.folder).mkdir(exist_ok=True)
        (tmp_path / source.folder / source.file).write_bytes(site.files[source.file])
    assert not prepare(tmp_path, console, download=False, sources=sources), "dogs and birds are missing"
    assert read("flowers", tmp_path).train
    assert site.asked == []
    assert (tmp_path / "flowers-102" / "102flowers.tgz").is_file()


def test_another_archive_put_there_by_hand_is_named_and_left(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"half of it")
    assert not prepare(tmp_path, console, sources=of("birds", sources))
    said = console.export_text()
    assert f"{tmp_path / 'CUB_200_2011.tgz'}: has sha256" in said
    assert "it is left as it is" in said
    assert (tmp_path / "CUB_200_2011.tgz").read_bytes() == b"half of it"
    assert site.asked == []


def test_one_failed_download_leaves_the_others(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    del site.files["102flowers.tgz"]
    assert not prepare(tmp_path, console, sources=of("flowers", sources) + of("dogs", sources))
    said = console.export_text()
    assert "102flowers.tgz: the server says 404" in said
    assert said.count("\n    as ") == 1
    assert "image_00001.jpg: no such picture; 204 of 204 are missing" in said
    assert read("dogs", tmp_path).train


def test_a_file_with_another_checksum_is_not_unpacked(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    site.files["images.tar"] = site.files["lists.tar"]
    assert not prepare(tmp_path, console, sources=of("dogs", sources))
    assert "images.tar: has sha256" in console.export_text()
    assert not (tmp_path / "stanford-dogs" / "Images").exists()


def test_an_archive_with_other_contents_is_named(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    wrong = dataclasses.replace(sources[0], url=f"{site.url}/lists.tar", sha256=None)
    assert not prepare(tmp_path, console, sources=[wrong])
    assert "lists.tar: holds test_list.mat, train_list.mat; expected Images" in console.export_text()
    assert not [path for path in (tmp_path / "stanford-dogs").iterdir() if path.name != "lists.tar"]


def test_members_that_would_leave_the_folder_are_refused(
    tmp_path: Path, site: Site, sources: list[Source], console: Console
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../../outside"), io.BytesIO())
    site.files["images.tar"] = stream.getvalue()
    unsafe = dataclasses.replace(sources[0], sha256=None)
    assert not prepare(tmp_path / "data", console, sources=[unsafe])
    assert "outside the destination" in console.export_text()
    assert not (tmp_path / "outside").exists()


def test_nothing_is_downloaded_to_a_disk_too_full(
    tmp_path: Path, site: Site, sources: list[Source], console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(obtaining.shutil, "disk_usage", lambda path: usage(100, 99, 1))
    assert not prepare(tmp_path, console, sources=sources)
    assert site.asked == []
    assert "has 1 byte free and about " in console.export_text()


def test_the_official_table_names_each_file_once() -> None:
    assert {source.domain for source in SOURCES} == set(DOMAINS)
    assert len({source.url for source in SOURCES}) == len({source.sha256 for source in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        assert source.sha256 is not None
        assert len(bytes.fromhex(source.sha256)) == 32
        assert source.packed == source.file.endswith((".tar", ".tgz"))
