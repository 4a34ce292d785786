"""Downloads from a server on this machine, which breaks off, ignores ranges, or holds another file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.website import Site, serve

from bench.worlds.downloads.fetch import CHUNK, FetchError, fetch

CONTENT = bytes(range(256)) * (CHUNK // 64)  # four pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_file_arrives_whole_and_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serve(Site({"a.tar": CONTENT})) as site:
        fetch(f"{site.url}/a.tar", tmp_path / "deep" / "a.tar", SHA256, lambda have, total: told.append((have, total)))
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.tar"]
    assert (tmp_path / "deep" / "a.tar").read_bytes() == CONTENT
    assert site.asked == [None]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_is_gone_on_from_or_replaced(tmp_path: Path, ranges: bool) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    told: list[int] = []
    with serve(Site({"a.tar": CONTENT}, ranges)) as site:
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256, lambda have, total: told.append(have))
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert not (tmp_path / "a.tar.part").exists()
    assert site.asked == ["bytes=1000-"]
    assert told[0] == (1000 if ranges else 0)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(tmp_path: Path, ranges: bool) -> None:
    with serve(Site({"a.tar": CONTENT}, ranges, breaks=[300_000, 500_000])) as site:
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256, pause=0)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert len(site.asked) == 3
    assert site.asked[1] == "bytes=300000-"
    assert site.asked[2] == ("bytes=800000-" if ranges else "bytes=500000-")


def test_it_gives_up_when_attempts_bring_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    with serve(Site({"a.tar": CONTENT}, breaks=[1000, 0, 0, 0, 0])) as site:
        with pytest.raises(FetchError, match=r"ended after 1000 of \d+ bytes; 1000 bytes of it are in .*a\.tar\.part"):
            fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256, pause=0)
        assert len(site.asked) == 3
        assert not (tmp_path / "a.tar").exists()
        site.breaks.clear()
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_another_file_than_expected_is_deleted_and_both_digests_named(tmp_path: Path) -> None:
    with serve(Site({"a.tar": b"sorry, we moved"})) as site:
        found = hashlib.sha256(b"sorry, we moved").hexdigest()
        with pytest.raises(FetchError, match=f"sha256 {found}, expected {SHA256}; the download is deleted"):
            fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_whole_already_needs_no_byte(tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    with serve(Site({"a.tar": CONTENT})) as site:
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"more")
    with serve(Site({"a.tar": CONTENT})) as site:
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", SHA256, pause=0)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert site.asked[-1] is None


def test_what_is_not_there_is_not_asked_for_again(tmp_path: Path) -> None:
    with serve(Site({})) as site, pytest.raises(FetchError, match="the server says 404 Not Found"):
        fetch(f"{site.url}/a.tar", tmp_path / "a.tar", pause=0)
    assert site.asked == [None]


def test_no_server_at_all_is_said_so(tmp_path: Path) -> None:
    with serve(Site({})) as site:
        url = site.url
    with pytest.raises(FetchError, match="Connection refused"):
        fetch(f"{url}/a.tar", tmp_path / "a.tar", pause=0)
