"""Wrong words of every command: exit code 2 and one message with what was found, and nothing written or sampled."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cells import artifacts, images
from bench.commands import main
from bench.worlds import World

pytestmark = pytest.mark.usefixtures("plugged")

TINY = ("--world", "tiny", "--suite", "smoke")
TASK = "golden retriever"
GAP = str(Path(__file__).parents[2] / "leaderboards" / "reference" / "finegrained-pocket-cells.csv")
FILES = {
    "file": "text",
    "taken/.store": "text",
    "syntax.py": "def (",
    "raises.py": "1 / 0",
    "exits.py": "import sys; sys.exit(3)",
    "bytes.py": "\0\1",
    "imports.py": "import nowhere_at_all",
    "cut.yaml": "methods: [mimmu\n",
    "list.yaml": "- mimmu\n",
    "unknown.yaml": "metods: mimmu\n",
    "empty.yaml": "seeds: []\n",
    "nan.yaml": "methods: mimmu\nset: {mimmu: {lr: .nan}}\n",
    "workers.yaml": "workers: 0\n",
    "nul.yaml": 'out: "a\\0b"\n',
    "empty.safetensors": "",
    "text.safetensors": "no tensors are in here",
    "x.results.tar.xz": "no archive",
    "empty.csv": "",
    "other.csv": "a,b\n1,2\n",
    "no-oracle.csv": "method,task,seed,status\nmimmu,t,0,ok\n",
    "unfinished.csv": "method,task,seed,status,ua\noracle,t,0,failed,\nmimmu,t,0,ok,3\n",
}
# words after those of a whole command -> what the message says; {} is the folder of the files
OF_RUN = [
    ("--methods mimum", "'mimum'"),
    ("--methods zz*", "'zz*'"),
    ("--methods mimmu --methods=", "must not be empty"),
    ("--world tinny", "'tinny'"),
    ("--world=", "must not be empty"),
    ("--suite smok", "'smok'"),
    ("--metrics uaa", "'uaa'"),
    ("--metrics q*", "'q*'"),
    ("--plugin {}/nowhere.py", "nowhere.py"),
    ("--plugin {}/folder", "folder"),
    ("--plugin {}/syntax.py", "line 1: SyntaxError"),
    ("--plugin {}/raises.py", "ZeroDivisionError"),
    ("--plugin {}/exits.py", "exits.py"),
    ("--plugin {}/bytes.py", "bytes.py"),
    ("--plugin {}/imports.py", "nowhere_at_all"),
    ("--plugin=", "must not be empty"),
    ("--backbone=", "must not be empty"),
    ("--backbone {}/file", "file"),
    ("--backbone {}/folder", "folder"),
    ("--backbone {}/nowhere", "nowhere"),
    ("--backbone a/b/c", "a/b/c"),
    ("--backbone {}/empty.safetensors", "empty.safetensors"),
    ("--backbone {}/text.safetensors", "text.safetensors"),
    ("--backbone-config sd15", "--backbone-config"),
    ("--backbone-weights both", "both"),
    ("--seeds 1,1", "(1, 1)"),
    ("--seeds 1.5", "'1.5'"),
    ("--seeds 1000000000000", "not 1000000000000"),
    ("--curve 1", "not 1"),
    ("--curve x", "must be a whole number, not 'x'"),
    ("--curve 1000000", "not 1000000"),
    ("--sample-batch 0", "not 0"),
    ("--forget nothing", "'nothing'"),
    ("--k 2", "--k"),
    ("--k x", "must be a whole number, not 'x'"),
    ("--sweep mimmu.lr=1,1", "'1' twice"),
    ("--sweep mimmu.lr=1,nan", "must be a finite number, not nan"),
    ("--sweep x.lr=1,2", "'x'"),
    ("--sweep protocol.guidance_scale=1,2", "'protocol'"),
    ("--sweep mimmu", "'mimmu'"),
    ("--set mimmu.lr=nan", "must be a finite number, not nan"),
    ("--set mimmu.lr=1e999", "not inf"),
    ("--set mimmu.epochs=1.5", "mimmu.epochs takes int, not 1.5"),
    ("--set mimmu.t_max=1000", "not 1000"),
    ("--set mimmu.lr=-1", "lr must be at least 0, not -1"),
    ("--set mimmu=1", "'mimmu=1'"),
    ("--set mimmu.lr=1 mimmu.lr=2", "mimmu.lr is given twice"),
    ("--set protocol.num_inference_steps=1000 protocol.scheduler=ddim", "within 1..999, not 1000"),
    ("--set protocol.images_per_concept=1000000000000", "not 1000000000000"),
    ("--set protocol.noise_seeds=(1,) protocol.images_per_concept=1000", "noise seeds"),
    ("--set protocol.nothing=1", "'nothing'"),
    ("--config {}/nowhere.yaml", "nowhere.yaml"),
    ("--config {}/folder", "folder"),
    ("--config {}/cut.yaml", "cut.yaml, line"),
    ("--config {}/list.yaml", "line 1"),
    ("--config {}/unknown.yaml", "'metods'"),
    ("--config {}/empty.yaml", "not an empty list"),
    ("--config {}/nan.yaml", "not .nan"),
    ("--config {}/workers.yaml", "not 0"),
    ("--config=", "must not be empty"),
    ("--nothing", "--nothing"),
    ("word", "word"),
]
ALONE = [
    ("run --workers x", "not x"),
    ("run --executor slrm", "'slrm'"),
    ("run --ray-address=", "must not be empty"),
    ("run --retries x", "must be a whole number, not 'x'"),
    ("run --results {}/x.results.tar.xz", "x.results.tar.xz"),
    ("run --results {}/folder", "folder"),
    ("run --out=", "must not be empty"),
    ("run --out {}/file/below", "file is a file, not a folder"),
    ("run --out {}/taken", "taken/.store is a file, not a folder"),
    ("collect --out {}/taken", "taken/.store is a file, not a folder"),
    ("run --out /proc/nothing", "/proc/nothing: the folder /proc is not writable"),
    ("run --config {}/nul.yaml", "NUL"),
    ("tune --lr nan", "not nan"),
    ("tune --lr 0", "not 0"),
    ("tune --lr 1e-4 0.0001", "different"),
    ("tune --methods pretrained", "pretrained"),
    ("tune --out {}/file", "file is a file, not a folder"),
    ("export mimmu --to {}/new", "'mimmu'"),
    ("export mimmu/nothing --to {}/new", "'nothing'"),
    ("export mimmu/TASK --to {}/file", "file"),
    ("export mimmu/TASK --to {}/file/below", "file is a file, not a folder"),
    ("export mimmu/TASK/9 --to {}/new", "seed 9 is not in"),
    ("strip --task TASK --show TASK --to {}/folder", "folder"),
    ("strip --task TASK --show TASK --to {}/new.xyz", "'.xyz'"),
    ("strip --task TASK --show TASK --to {}/new", "has the ending ''"),
    ("strip --task TASK --show TASK --to {}/new.png --count 0", "not '0'"),
    ("strip --task TASK --show TASK --to {}/new.png --zoom 100000", "not '100000'"),
    ("strip --task TASK --show nothing --to {}/new.png", "'nothing'"),
    ("pack --to {}/folder", "folder"),
    ("pack --to {}/file/below", "file is a file, not a folder"),
    ("pack --to=", "must not be empty"),
    ("ls method", "'method'"),
    ("ls suites --world tinny", "'tinny'"),
    ("prepare natral", "'natral'"),
    ("prepare natural", "--data"),
    ("prepare natural --data=", "must not be empty"),
    ("prepare natural --data {}/file", "file is a file, not a folder"),
    ("prepare canvas --data {}/file/below", "file is a file, not a folder"),
    ("gap {}/nowhere.csv", "nowhere.csv: no such file"),
    ("gap {}/folder", "folder: a folder"),
    ("gap {}/empty.csv", "empty.csv: not a table"),
    ("gap {}/other.csv", "'method'"),
    ("gap {}/no-oracle.csv", "no row of the oracle"),
    ("gap {}/unfinished.csv", "no task with all cells finished"),
    ("gap GAP --metrics uaa", "'uaa'"),
    ("pln", "'pln'"),
    ("--version", "--version"),
]


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("computed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((f"{('run', 'plan', 'collect', 'pack', 'strip', 'export')[i % 6]} {words}", said)
          for i, (words, said) in enumerate(OF_RUN)),
        *ALONE,
    ],
)  # fmt: skip
def test_wrong_words_are_refused_before_anything_is_written(
    world: World,
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(images, "sample", refuse)
    monkeypatch.setattr(artifacts.pipeline, "load", refuse)
    files, out = tmp_path / "files", tmp_path / "out"
    for folder in ("folder", "taken"):
        files.joinpath(folder).mkdir(parents=True)
    for name, text in FILES.items():
        files.joinpath(name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    given = [word.format(files).replace("TASK", TASK).replace("GAP", GAP) for word in words.split()]
    name = given[0]
    needs = {"strip": ["--task", TASK, "--show", TASK], "export": [f"mimmu/{TASK}"]}
    rest = [] if name not in needs or "--to" in given else needs[name]
    rest += ["--to", str(files / "new.png")] if name in ("strip", "export", "pack") and "--to" not in words else []
    if name in ("run", "plan", "collect", "pack", "strip", "export"):
        rest += ["--workers", "1"] if name == "run" and "--workers" not in words else []
        rest += [
            w for flag, value in zip(TINY[::2], TINY[1::2], strict=True) if flag not in words for w in (flag, value)
        ]
    if name == "tune":
        rest += ["--world", "tiny"]
    if name not in ("ls", "prepare", "gap", "pln", "--version") and "--out" not in words and "nul.yaml" not in words:
        rest += ["--out", str(out)]
    try:
        code: object = main.main([name, *rest, *given[1:]])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    told = " ".join((captured.out + captured.err).split())
    assert code == main.USAGE, told
    assert said in told
    assert "Traceback" not in told
    assert "[Errno" not in told
    assert sorted(tmp_path.rglob("*")) == before
