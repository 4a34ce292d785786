"""What workers do in tests of their end. It imports next to nothing, so that a process is there at once."""

import os
import signal
import subprocess
import time
from typing import Any

from bench.core.results import CellResult

KILLED, LEAVES = 0, 5  # cells
RAISES = 99  # a seed
raises = False


def finished(**numbers: Any) -> CellResult:
    """The result of a cell; what a test wants to know of the process stands in its costs."""
    return CellResult("", "", 0, "", "", "", "", status="ok", cost=numbers)


def start(run: object, *others: object) -> None:
    global raises
    raises = RAISES in run.seeds  # type: ignore[attr-defined]


def work(index: int) -> CellResult:
    if raises:
        raise LookupError("on purpose")
    if index == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if index == LEAVES:
        os._exit(7)
    time.sleep(0.1)  # or one worker may have done everything before another is there
    return finished(pid=os.getpid())


def die(index: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def echo(index: int) -> CellResult:
    time.sleep(0.02)
    return finished(index=index)


def starts_another(index: int) -> CellResult:
    """Starts a process that outlives the cell."""
    return finished(pid=os.getpid(), other=subprocess.Popen(["sleep", "300"]).pid)


def once(index: int) -> CellResult:
    """Dies the first time that a cell is tried."""
    try:
        os.close(os.open(os.path.join(os.environ["LETHE_DOOMED"], f"tried-{index}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return finished(index=index)
    os.kill(os.getpid(), signal.SIGKILL)
    return finished()
