"""Cache keys hold what they stand for: another byte of a file that a run reads is another key of what follows."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.plugin_files import save

from bench.cells.artifacts import Artifacts, Context
from bench.cells.judges import Judges
from bench.core.config import RunConfig
from bench.core.store import Entry
from bench.plan import plugins
from bench.plan.plan import resolve
from bench.worlds import World
from metrics import METRICS

MACHINE = {"device": "cpu", "dtype": "torch.float32", "versions": {"torch": "2"}}

PLUGIN = """
import os
from pathlib import Path
import numpy as np
import torch
from bench.worlds import WORLDS
from bench.worlds.pictures import picture
from support.tiny import Tiny
from methods import METHODS
from methods.mimmu import MimMu
from metrics import METRICS, Metric, Score
from beside_x import ETA

DATA = Path(__file__).parent

class Photographed(Tiny):
    name = "photographed"
    files = (DATA / "table.txt",)

    def reference(self, concept, count):
        number = self.concepts.index(concept) if concept in self.concepts else 0
        return torch.stack([picture(DATA / f"{number}-{i}.bmp", 64) for i in range(count)])

    def judge(self, name, device):
        judge = super().judge(name, device)
        bias = torch.from_numpy(np.fromfile(DATA / f"{name}.f32", np.float32))
        judge.head.load_state_dict({**judge.head.state_dict(), "bias": bias})
        return judge

WORLDS.add("photographed", Photographed(Path(os.environ["TINY_X"])))

@METHODS.register("reading")
class Reading(MimMu):
    about, source, fidelity = "reads", "a test", "control"

    def files(self):
        return (DATA / "words.txt", str(DATA / "more"), *DATA.glob("listed-*.txt"))

    def prepare(self, harness):
        from later_x import STRENGTH

METRICS.add("counted", Metric("counted", "a test", "", True, 0.0, 99.0, "a test",
                              lambda evidence: Score(1.0, 1), files=(DATA / "counts.txt",)))
# a comment"""

WEIGHTS, JUDGED, FIGURES = {"weights", "snapshot"}, {"judgements", "reference"}, {"ua", "counted", "accuracy"}
ALL = WEIGHTS | JUDGED | FIGURES
FILES: dict[str, set[str]] = {  # a file of the plug-in -> the keys that follow from it
    "mine.py": ALL,
    "beside_x.py": ALL,
    "later_x.py": ALL,
    "words.txt": WEIGHTS,
    "more/deep/list.txt": WEIGHTS,
    "listed-1.txt": WEIGHTS,
    "more/.hidden": WEIGHTS,
    "elsewhere/linked.txt": WEIGHTS,  # `more` has a link to this folder
    "counts.txt": {"counted"},
    "table.txt": JUDGED | FIGURES,
    "species.f32": JUDGED | FIGURES,
    "0-0.bmp": {"reference"} | FIGURES,
    "0-3.bmp": {"reference"} | FIGURES,
    "1-0.bmp": FIGURES,
    "0-4.bmp": set(),  # four of each are used
    "unread.txt": set(),
    "unread_x.py": set(),
    "more/.DS_Store": set(),
    "more/__pycache__/list.txt": set(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, world: World, pipeline_folder: Path) -> Iterator[Path]:
    """The folder of a plug-in with a world of photographs, a method and a metric that read files."""
    folder = tmp_path_factory.mktemp("plugin")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("NOTE = 1\n# a comment" if name.endswith(".py") else "one two three")
    (folder / "beside_x.py").write_text("ETA = 1\n# a comment")
    (folder / "later_x.py").write_text("STRENGTH = 1\n# a comment")
    (folder / "more" / "link").symlink_to(folder / "elsewhere")
    np.zeros(len(world.judge("species", torch.device("cpu")).labels), np.float32).tofile(folder / "species.f32")
    for number in range(len(world.concepts)):
        for i in range(5):
            Image.new("RGB", (8, 8), (number * 9, i * 40, 7)).save(folder / f"{number}-{i}.bmp")
    save(folder, PLUGIN)
    with pytest.MonkeyPatch.context() as patch, plugins.temporarily():
        patch.setenv("TINY_X", str(pipeline_folder))
        patch.syspath_prepend(folder)
        yield folder


def flip(file: Path, at: int) -> None:
    """Change one byte. Size and modification time stay, as after a copy that keeps times."""
    before, content = file.stat(), bytearray(file.read_bytes())
    first = {".py": len(content) - 7, ".bmp": 54}.get(file.suffix, 0)  # the comment at the end; the pixels
    content[first + at % (len(content) - first)] ^= 128 if file.suffix == ".bmp" else 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def keys(folder: Path) -> dict[str, object]:
    """A key of each kind, of a run that begins now."""
    plan = resolve(
        RunConfig(("reading",), "smoke", "photographed", metrics=("ua", "counted"), plugins=(folder / "mine.py",))
    )
    panel = Judges(plan.world, plan.concepts, torch.device("cpu")).digest
    artifacts = Artifacts(Context(plan, machine=MACHINE, content="b", judges_digest=lambda: panel))
    cell, entry = next(c for c in plan.cells if c.method == "reading"), Entry(Path(), {}, "w")
    concept = plan.world.concepts[0]
    return {
        "latents": artifacts.latents.key(concept, 4),
        "weights": artifacts.weights.key(cell),
        "snapshot": artifacts.snapshot.key(cell, 1, 2),
        "images": artifacts.images.key(entry),
        "judgements": artifacts.judgements.key(entry),
        "reference": artifacts.reference.key(concept),
        "accuracy": artifacts.accuracies.key(cell, entry),
        **{name: artifacts.metric_score.key(METRICS.get(name), cell, entry) for name in ("ua", "counted")},
    }


@pytest.fixture(scope="module")
def before(folder: Path) -> dict[str, object]:
    return keys(folder)


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    return {kind for kind in before if before[kind] != after[kind]}


@pytest.mark.parametrize("name", FILES)
def test_another_byte_of_a_file_is_another_key_of_what_follows(
    folder: Path, before: dict[str, object], name: str
) -> None:
    flip(folder / name, at=len(name))
    after = keys(folder)
    flip(folder / name, at=len(name))
    assert changed(before, after) == FILES[name]


@pytest.mark.huge
@settings(max_examples=300)
@given(name=st.sampled_from([*FILES]), at=st.integers(0, 10**6))
def test_any_byte_of_any_file(folder: Path, before: dict[str, object], name: str, at: int) -> None:
    flip(folder / name, at)
    after = keys(folder)
    flip(folder / name, at)
    assert changed(before, after) == FILES[name]


@pytest.mark.parametrize(("old", "new"), [("listed-1.txt", "listed-2.txt"), ("more/deep/list.txt", "more/deep/x.txt")])
def test_another_name_of_a_file_is_another_key(folder: Path, before: dict[str, object], old: str, new: str) -> None:
    (folder / old).rename(folder / new)
    after = keys(folder)
    (folder / new).rename(folder / old)
    assert changed(before, after) == WEIGHTS


def test_content_that_two_files_exchange_is_another_key(folder: Path, before: dict[str, object]) -> None:
    first, second = folder / "words.txt", folder / "counts.txt"
    first.write_text("three two one")
    between = keys(folder)
    assert changed(before, between) == WEIGHTS
    for old, new in ((first, folder / "aside"), (second, first), (folder / "aside", second)):
        old.rename(new)
    assert changed(between, keys(folder)) == WEIGHTS | {"counted"}
    first.write_text("one two three")
    second.write_text("one two three")
    assert keys(folder) == before
