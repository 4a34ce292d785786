"""A file lock between processes on one host, or on several hosts that share a file system."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import SoftFileLease, Timeout

STALE = 120.0  # seconds without a renewal after which a waiting process takes the lock over, by its own clock
BEAT = 20.0  # seconds between two renewals; network file systems may show a renewal a minute late
POLL = 0.2  # seconds between two attempts to get the lock
DAY = 86400.0  # seconds after which the lock of another host counts as left over
ASIDE = (".break.", ".stale-")  # in names of files that exist for a moment while a lock is taken over


@contextmanager
def held(path: Path, wait: float | None = None) -> Iterator[None]:
    """Hold a lock within the block. The lock is the file `path`, which names the holder's host and process.

    The holder renews the lock. A waiting process takes over a lock that was not renewed for `STALE` seconds. It takes
    over the lock of a process that died on this host at once, if the file system can exchange two files.

    Args:
        path: path of the file.
        wait: seconds to wait for the lock; None waits without a limit.

    Raises TimeoutError if another process still holds the lock after `wait` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(path, lease_duration=STALE, heartbeat_interval=min(BEAT, STALE / 3))
    began, watch = time.monotonic(), _Watch(path)
    while True:
        left = STALE / 4 if wait is None else max(0.0, min(STALE / 4, began + wait - time.monotonic()))
        try:
            lease.acquire(timeout=left, poll_interval=POLL)
            break
        except Timeout:
            if watch.unchanged_for() >= STALE:
                watch.remove()
            elif wait is not None and time.monotonic() - began >= wait:
                raise TimeoutError(f"{path} is held by {owner(path)}") from None
    try:
        yield
    finally:
        lease.release()


class _Watch:
    """Watches the lock of another process.

    This class covers two cases that filelock does not. filelock takes over a stale lock by exchanging two files in
    one step, and network file systems refuse that. And it never takes over an empty lock file, whose process died
    before it wrote its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[tuple[int, int, str] | None, float] = (None, time.monotonic())

    def unchanged_for(self) -> float:
        """Seconds since the last change of the lock that this process saw; 0 if there is no lock."""
        now = self._read(self.path)
        if now is None or now != self._seen[0]:
            self._seen = now, time.monotonic()
        return time.monotonic() - self._seen[1]

    def remove(self) -> None:
        """Remove the lock, unless another process has taken it since `unchanged_for` last read it."""
        aside = self.path.with_name(f"{self.path.name}.stale-{uuid.uuid4().hex}")
        with suppress(OSError):
            os.rename(self.path, aside)
            if self._read(aside) != self._seen[0]:
                _put_back(aside, self.path)
            aside.unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> tuple[int, int, str] | None:
        try:
            stat = path.stat()
            return stat.st_ino, stat.st_mtime_ns, path.read_text(errors="replace")
        except OSError:
            return None


def _put_back(aside: Path, path: Path) -> None:
    """Rename `aside` to `path`, unless another process has taken the lock in the meantime."""
    try:
        os.link(aside, path)  # fails if the lock exists
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.rename(aside, path)


def sweep(folder: Path) -> None:
    """Remove locks in `folder` whose process has ended on this host, or that nobody has renewed for a day."""
    with suppress(OSError):
        for entry in [*os.scandir(folder)]:
            watch = _Watch(Path(entry.path))
            watch.unchanged_for()
            with suppress(OSError):
                if _is_left_over(entry):
                    watch.remove()


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    age, fields = abs(time.time() - entry.stat(follow_symlinks=False).st_ctime), _fields(Path(entry.path))
    if any(mark in entry.name for mark in ASIDE) or not {"pid", "host"} <= fields.keys():
        return age > STALE  # such a file exists only for a moment
    number = fields["pid"]
    is_dead = fields["host"] == os.uname().nodename and not (number.isdecimal() and is_running(int(number)))
    return is_dead or age > DAY


def is_running(pid: int) -> bool:
    """Whether a process of this host exists and has not ended."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # a process of another user
        return True


def owner(path: Path) -> str:
    """A text for people that names the process and host that hold the lock."""
    fields = _fields(path)
    if not {"pid", "host"} <= fields.keys():
        return "no process any more"
    return f"process {fields['pid']} on {fields['host']}"


def elsewhere(path: Path) -> bool:
    """Whether a process on another host holds the lock. This host can't tell whether that process still runs."""
    return _fields(path).get("host", os.uname().nodename) != os.uname().nodename


def _fields(path: Path) -> dict[str, str]:
    try:
        return dict(line.partition("=")[::2] for line in path.read_text(errors="replace").splitlines())  # type: ignore[misc]
    except OSError:
        return {}
