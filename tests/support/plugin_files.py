"""Plug-in files as a user would write them."""

from pathlib import Path

METHOD = """
from methods import METHODS
from methods.mimmu import MimMu

@METHODS.register("mine")
class Mine(MimMu):
    about, source, fidelity = "moves", "a test", "control"
"""

# a process that `support.child_runs` has started knows the tiny world from this file
TINY = """
import os
from pathlib import Path
from bench.worlds import WORLDS
from support.tiny import Tiny

if "tiny" not in WORLDS.names():
    WORLDS.add("tiny", Tiny(Path(os.environ["LETHE_TINY"])))

if written := os.environ.get("LETHE_WRITTEN"):  # a file that gets a line for each entry that was computed
    from bench.core.store import Store

    put = Store.put

    def noted(self, kind, key, *given, **more):
        with open(written, "a") as stream:
            stream.write(f"{kind}/{self.path(kind, key).name}\\n")
        return put(self, kind, key, *given, **more)

    Store.put = noted
"""


def save(folder: Path, text: str, name: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name
