"""Files that plug-ins declare or read: what is refused before a run, and what a changed file computes again."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from support.boards import only
from support.plugin_files import save

from bench.commands import main
from bench.plan import plugins
from bench.worlds import World

PLUGIN = """
import os
from pathlib import Path
from bench.worlds import WORLDS
from support.tiny import Tiny
from methods import METHODS
from methods.mimmu import MimMu
from metrics import METRICS, Metric, Score

DATA = Path(__file__).parent

class Filed(Tiny):
    name = "filed"
    files = {world}

WORLDS.add("filed", Filed(Path(os.environ["TINY_X"])))

@METHODS.register("mine")
class Mine(MimMu):
    about, source, fidelity = "reads", "a test", "control"
    files = {method}

    def prepare(self, harness):
        {prepare}

def compute(evidence):
    return Score(float(len((DATA / "counts.txt").read_text())), 1)

METRICS.add("counted", Metric("counted", "a test", "", True, 0.0, 99.0, "a test", compute, files={metric}))
"""
NONE = {"world": "()", "method": "()", "metric": "()", "prepare": "pass"}
OWNERS = {"world": "world 'filed'", "method": "method 'mine'", "metric": "metric 'counted'"}
REFUSED = {  # what `files` is -> what the message says besides the owner
    "3": "files is 3; it must be a path or a tuple of paths",
    "None": "files is None; it must be",
    "('words.txt', 3)": "files has 3; it must be",
    "b'words.txt'": "files has 119; it must be",
    "('',)": "files has ''; it must be",
    "iter(('words.txt',))": "it must be a path or a tuple of paths",
    "(DATA / 'none.txt',)": "none.txt, but there is no such file",
    "DATA / ('x' * 300)": "but there is no such file",
    "str(DATA / 'broken')": "broken, but there is no such file",
    "[DATA / 'empty']": "empty, but there are no files in it",
    "{DATA / 'queue'}": "queue, which is neither a file nor a folder",
    "Path('/dev/zero')": "/dev/zero, which is neither a file nor a folder",
    "Path('/proc/self/mem')": "/proc/self/mem, which can't be read",
    "(DATA / 'deep',)": "deep, which can't be read",
    "property(lambda self: (self.none,))": "",
}


@pytest.fixture
def folder(tmp_path: Path, pipeline_folder: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of files that a plug-in may declare."""
    folder = tmp_path / "plugin"
    (folder / "empty" / "within").mkdir(parents=True)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "mem").symlink_to("/proc/self/mem")  # unreadable for root too
    (folder / "broken").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "queue")
    for name in ("words.txt", "counts.txt", "table.txt", "unsaid.txt"):
        (folder / name).write_text("one two")
    monkeypatch.setenv("TINY_X", str(pipeline_folder))
    with plugins.temporarily():
        yield folder


def run(folder: Path, **changes: str) -> int:
    file = save(folder, PLUGIN.format(**{**NONE, **changes}))
    words = f"--plugin {file} --world filed --suite smoke --methods mine --metrics ua counted --workers 1"
    return main.main(["run", *words.split(), "--out", str(folder / "out"), "--overwrite"])


EACH = [
    pytest.param(files, kind, marks=() if i % len(OWNERS) == k else pytest.mark.huge)  # one owner each is enough for CI
    for i, files in enumerate(REFUSED)
    for k, kind in enumerate(OWNERS)
    if not (files.startswith("property") and kind == "metric")  # a metric is no class of the user
]


@pytest.mark.parametrize(("files", "kind"), EACH)
def test_files_that_have_no_content_are_refused_first(
    folder: Path, capsys: pytest.CaptureFixture[str], files: str, kind: str
) -> None:
    assert run(folder, **{kind: files}) == 2
    said = " ".join("".join(capsys.readouterr()).split())
    assert OWNERS[kind] in said
    assert REFUSED[files] in said
    assert not (folder / "out" / ".store").exists()


def stored(folder: Path) -> dict[Path, str]:
    """Each entry of the store -> its kind, and for figures what it is."""
    entries = {}
    for file in (folder / "out" / ".store").glob("*/*/*.json"):
        key = json.loads(file.read_text()).get("key", {})
        entries[file.parent] = key.get("what", file.parent.parent.name)
    return entries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "again"),
    [
        (("unsaid.txt", "words.txt", "counts.txt"), {"deltas": 1, "counted": 3, "result": 3}),  # the weights are equal
        (("table.txt",), {"reference": 5, "judgements": 3, "ua": 3, "counted": 3, "accuracy": 3, "result": 3}),
    ],
)
def test_a_changed_file_computes_what_follows_again_and_a_row_says_what_was_not_declared(
    folder: Path, changed: tuple[str, ...], again: dict[str, int]
) -> None:
    given = {
        "method": "DATA / 'words.txt'",
        "metric": "str(DATA / 'counts.txt')",
        "world": "[DATA / 'table.txt']",
        "prepare": "(DATA / 'words.txt').read_text(); (DATA / 'unsaid.txt').read_text()",
    }
    assert run(folder, **given) == 0
    before = stored(folder)
    for name in changed:
        (folder / name).write_text("two one")
    assert run(folder, **given) == 0
    after = stored(folder)
    assert Counter(after[path] for path in after.keys() - before.keys()) == again
    cells = pd.read_csv(only(folder / "out", "-cells.csv")).set_index("method")["warnings"]
    assert "unsaid.txt" in cells["mine"]
    assert "words.txt" not in cells["mine"]
    assert cells.drop("mine").isna().all()
