"""What docs/security.md says about files of other people holds: they are data, and no code of theirs is run."""

import ast
import io
import json
import lzma
import pickle
import tarfile
from pathlib import Path

import pytest
import torch
from support.tiny import variant

from bench.cells.judges import Judges
from bench.commands import results_archive
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World, WorldUnavailable, inception

ROOT = Path(__file__).parents[1]
SOURCES = [file for folder in ("bench", "methods", "metrics") for file in sorted((ROOT / folder).rglob("*.py"))]


def calls(file: Path) -> list[tuple[str, dict[str, str]]]:
    """Every call in a file: the function's text, and its named arguments as text."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(n.func), {k.arg or "**": ast.unparse(k.value) for k in n.keywords}) for n in nodes]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_loader_may_run_code_of_a_file(file: Path) -> None:
    for function, named in calls(file):
        if function == "torch.load":
            assert named.get("weights_only") == "True"
        assert function not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "eval", "exec")
        assert "trust_remote_code" not in named
        assert "custom_pipeline" not in named
        assert named.get("allow_pickle", "False") == "False"


class Payload:
    """A pickle of it writes a file when a loader without restrictions reads it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_the_weights_of_the_feature_extractor_is_not_run(world: World, tmp_path: Path, how: str) -> None:
    file, sign = tmp_path / inception.FILE, tmp_path / "the code was run"
    if how == "torch":
        torch.save({"weight": Payload(sign)}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": Payload(sign)}))
    pickle.loads(pickle.dumps(Payload(sign)))
    assert sign.exists()  # the payload works
    sign.unlink()
    other = variant(world, feature_extractor=lambda: inception.NAME, feature_weights=lambda: str(file))
    with pytest.raises(WorldUnavailable, match="a pickle that contains more than tensors"):
        Judges(other, (), torch.device("cpu"))
    assert not sign.exists()


def archive(file: Path, member: tarfile.TarInfo, content: bytes = b"{}") -> Path:
    about = json.dumps(dict.fromkeys(("command", "cells", "machine", "metrics", "curve", "fingerprint"))).encode()
    with tarfile.open(file, "w:xz") as tar:
        for info, data in ((tarfile.TarInfo(results_archive.ABOUT), about), (member, content)):
            info.size = len(data) if info.isfile() else 0
            tar.addfile(info, io.BytesIO(data))
    return file


@pytest.mark.parametrize("name", ["../x/record.json", "/etc/x/record.json", "deltas/../record.json", "images/x/y.json"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_results_file_with_other_members_is_refused(world: World, tmp_path: Path, name: str, kind: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    plan = resolve(RunConfig(("pretrained",), "smoke", "tiny", out=tmp_path / "out"))
    with pytest.raises(ValueError, match="not a whole file of results"):
        results_archive.unpack(plan, archive(tmp_path / "x.results.tar.xz", member))
    assert not list(tmp_path.rglob("record.json"))


def test_results_file_that_grows_too_large_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_archive, "LARGEST", 2**20)
    file = tmp_path / "x.results.tar.xz"
    file.write_bytes(lzma.compress(bytes(2**24)))
    assert file.stat().st_size < 2**13
    plan = resolve(RunConfig(("pretrained",), "smoke", "tiny", out=tmp_path / "out"))
    with pytest.raises(ValueError, match="its content has more than 1048576 bytes"):
        results_archive.unpack(plan, file)
