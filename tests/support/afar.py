"""A small run that a cluster's tests hand out: its command, and where it can be seen that it trains."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.engines.run_folder import RunFolder
from bench.plan.plan import resolve
from bench.plan.work_graph import work_items
from support.boards import only

METRICS = ("ua", "nra", "drift")
WORDS = ["--methods", "mimmu", "--suite", "smoke", "--metrics", *METRICS, "--set", "mimmu.epochs=40"]
LITTLE = [
    *("--methods", "mimmu", "--suite", "smoke", "--metrics", "ua", "--set", "mimmu.epochs=none", "mimmu.steps=2"),
    *("protocol.images_per_concept=2", "protocol.forget_images=2", "protocol.num_inference_steps=2"),
]
BOARD = (".csv", "-cells.csv", "-concepts.csv", ".json")
OTHER_KIND = str(Path(__file__).with_name("other_kind.py"))  # a plug-in


class Afar:
    """The run of `WORDS` into a folder, its only training (`victim` is its unit), and what tells that it goes on."""

    def __init__(self, out: Path) -> None:
        run = RunConfig(("mimmu",), "smoke", metrics=METRICS, overrides={"mimmu": {"epochs": "40"}}, out=out)
        plan = resolve(run)
        self.out, self.folder, self.units = out, RunFolder(plan.run), work_items(plan)
        self.victim = next(i for i, unit in enumerate(self.units) if unit.cell == 2)
        weights, store = (made := Executor(plan)).artifacts.weights, made.artifacts.store
        self.lease = out / ".store" / ".leases" / f"deltas-{store.path('deltas', weights.key(plan.cells[2])).name}"

    def board(self) -> dict[str, bytes]:
        """The board's files."""
        return {ending: only(self.out, ending).read_bytes() for ending in BOARD}


def wait_for(what: Callable[[], bool], shell: subprocess.Popen[str] | None = None, seconds: float = 480) -> None:
    """Wait until something is so, while a command goes on."""
    end = time.monotonic() + seconds
    while not what():
        assert shell is None or shell.poll() is None, shell.communicate()[0]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
