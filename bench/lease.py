"""A claim on something that one of several processes does, on one host or on several that share a file system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

STALE = 90.0  # seconds without a sign of life after which another takes over; by the waiting process's own clock


@contextmanager
def held(path: Path, wait: float | None = None) -> Iterator[None]:
    """Within the block this process has the lease `path`, a file that names its host and process and is renewed.

    A lease of a process that died on this host is taken over at once, one that was not renewed for `STALE` seconds by
    whoever waits. Raises TimeoutError after `wait` seconds; None waits for as long as it takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(path, lease_duration=STALE)
    while True:
        try:
            lease.acquire(timeout=2 * STALE if wait is None else wait)
            break
        except Timeout:
            if wait is not None:
                raise TimeoutError(f"{path} is held by {owner(path)}") from None
            if path.exists() and not path.stat().st_size:  # who made it died before it could say who it was
                path.unlink(missing_ok=True)
    try:
        yield
    finally:
        lease.release()


def owner(path: Path) -> str:
    """Who holds the lease, for people."""
    try:
        said = dict(line.partition("=")[::2] for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return "nobody any more"
    return f"process {said['pid']} on {said['host']}" if {"pid", "host"} <= said.keys() else "somebody"
