"""Download of one large file. It resumes after an interruption, and deletes a file with a wrong checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

Told = Callable[[int, int | None], None]  # (bytes on disk, bytes of the whole file or None if unknown) -> None
AGENT = "lethe/0.1 (benchmark of concept unlearning)"  # some servers refuse urllib's default
CHUNK = 1 << 18


class FetchError(RuntimeError):
    """A file could not be downloaded, or has the wrong content. The message contains the file and the reason."""


def fetch(
    url: str,
    to: Path,
    sha256: str | None = None,
    told: Told = lambda have, total: None,
    attempts: int = 3,
    pause: float = 2.0,
    timeout: float = 30.0,
) -> None:
    """Download `url` to the file `to`. Until it is complete and verified, it has the suffix ".part".

    If a partial file exists, an HTTP range request resumes it. If the server ignores ranges, the partial file is
    replaced.

    Args:
        url: the address of the file.
        to: the path of the complete file.
        sha256: the expected digest in hex. None disables the check.
        told: is called with the bytes on disk and the bytes of the whole file, which are None if unknown.
        attempts: the number of consecutive attempts without new bytes after which the download fails.
        pause: seconds before the next attempt after a broken connection.
        timeout: seconds until a silent connection counts as broken.

    Raises FetchError. After a failed connection the partial file is kept. After a wrong digest it is deleted.
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
    """SHA-256 of a file, in hex. The file is read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _go_on(url: str, part: Path, told: Told, timeout: float) -> None:
    """Download the bytes of `url` that `part` lacks. Raises OSError or HTTPException if the connection breaks."""
    have = _size(part)
    headers = {"User-Agent": AGENT, **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: the file has no bytes after the first `have`
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":
            part.unlink()  # it is longer than the file, so it is not a part of the file
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
