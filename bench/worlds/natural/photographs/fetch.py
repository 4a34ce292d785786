"""Downloading one large file: goes on where it broke off, and keeps nothing that has another checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

Told = Callable[[int, int | None], None]  # bytes there, bytes in all or None
AGENT = "lethe/0.1 (benchmark of concept unlearning)"  # some servers refuse the library's own
CHUNK = 1 << 18


class FetchError(RuntimeError):
    """A file could not be had, or is another one than expected; the message says which and why."""


def fetch(
    url: str,
    to: Path,
    sha256: str | None = None,
    told: Told = lambda have, total: None,
    attempts: int = 3,
    pause: float = 2.0,
    timeout: float = 30.0,
) -> None:
    """Download `url` to the file `to`; until it is whole and verified it is called `to` and ".part".

    A part that is there already is gone on from by an HTTP range, or replaced if the server ignores ranges. A broken
    connection is taken up again after `pause` seconds, until `attempts` in a row brought nothing. Raises FetchError:
    the part stays where the connection failed, and is deleted where the digest is not `sha256`.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _go_on(url, part, told, timeout)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise FetchError(f"{url}: the server says {error.code} {error.reason}") from error
            problem: Exception = error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        failures = 1 if _size(part) > before else failures + 1
        if failures >= attempts:
            raise FetchError(f"{url}: {problem}; {_size(part)} bytes of it are in {part}") from problem
        time.sleep(pause)
    if sha256 is not None and (found := digest(part)) != sha256:
        part.unlink()
        raise FetchError(f"{url}: has sha256 {found}, expected {sha256}; the download is deleted")
    os.replace(part, to)


def digest(file: Path) -> str:
    """sha256 of a file, in hex, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _go_on(url: str, part: Path, told: Told, timeout: float) -> None:
    """Add to `part` what it lacks of `url`. Raises OSError or HTTPException where the connection breaks."""
    have = _size(part)
    headers = {"User-Agent": AGENT, **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing lies beyond what is there
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":
            part.unlink()  # longer than the file, so no part of it
            raise ConnectionError(f"{have} bytes were there, more than the file has") from error
        return
    with response:
        whole = response.status != 206
        if not whole and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError(f"asked to go on from byte {have}, the server sent another range")
        length = response.headers.get("Content-Length")
        size = 0 if whole else have
        total = size + int(length) if length else None
        told(size, total)
        with part.open("wb" if whole else "ab") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                size += len(chunk)
                told(size, total)
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")
