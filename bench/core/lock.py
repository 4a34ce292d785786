"""A claim on something that one of several processes does, on one host or on several that share a file system."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

STALE = 120.0  # seconds without a sign of life after which another takes over; by the waiting process's own clock
BEAT = 20.0  # seconds between two signs of life; network file systems may show them a minute late
POLL = 0.2


@contextmanager
def held(path: Path, wait: float | None = None) -> Iterator[None]:
    """Within the block this process has the lease `path`, a file that names its host and process and is renewed.

    A lease that was not renewed for `STALE` seconds is taken over by whoever waits, and that of a process that died on
    this host at once, where the file system can exchange two files. Raises TimeoutError after `wait` seconds; None
    waits for as long as it takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(path, lease_duration=STALE, heartbeat_interval=min(BEAT, STALE / 3))
    began, seen = time.monotonic(), _Watch(path)
    while True:
        left = STALE / 4 if wait is None else max(0.0, min(STALE / 4, began + wait - time.monotonic()))
        try:
            lease.acquire(timeout=left, poll_interval=POLL)
            break
        except Timeout:
            if seen.unchanged_for() >= STALE:
                seen.remove()
            elif wait is not None and time.monotonic() - began >= wait:
                raise TimeoutError(f"{path} is held by {owner(path)}") from None
    try:
        yield
    finally:
        lease.release()


class _Watch:
    """A lease of somebody else, as this process sees it.

    filelock takes a stale lease over by exchanging two files in one step, which network file systems refuse; and it
    leaves one that nobody signed, since its maker died at once, for ever.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[tuple[int, int, str] | None, float] = (None, time.monotonic())

    def unchanged_for(self) -> float:
        """Seconds since the lease was last seen to change; 0 where there is none."""
        now = self._look(self.path)
        if now is None or now != self._seen[0]:
            self._seen = now, time.monotonic()
        return time.monotonic() - self._seen[1]

    def remove(self) -> None:
        """Take it away, if it is still the one that was seen; another that came meanwhile is put back."""
        aside = self.path.with_name(f"{self.path.name}.stale-{uuid.uuid4().hex}")
        with suppress(OSError):
            os.rename(self.path, aside)
            if self._look(aside) != self._seen[0]:
                os.link(aside, self.path)
            aside.unlink()

    @staticmethod
    def _look(path: Path) -> tuple[int, int, str] | None:
        try:
            stat = path.stat()
            return stat.st_ino, stat.st_mtime_ns, path.read_text(errors="replace")
        except OSError:
            return None


def owner(path: Path) -> str:
    """Who holds the lease, for people."""
    said = _said(path)
    return f"process {said['pid']} on {said['host']}" if {"pid", "host"} <= said.keys() else "nobody any more"


def elsewhere(path: Path) -> bool:
    """Whether the lease is held on another host, of whose processes nothing is known here."""
    return _said(path).get("host", os.uname().nodename) != os.uname().nodename


def _said(path: Path) -> dict[str, str]:
    try:
        return dict(line.partition("=")[::2] for line in path.read_text(errors="replace").splitlines())  # type: ignore[misc]
    except OSError:
        return {}
