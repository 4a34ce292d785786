"""Results in one file: what one store has, another takes over, and nothing that does not fit."""

import dataclasses
import io
import json
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest

from bench.cells import estimate
from bench.cells.executor import Executor
from bench.commands import main, results_archive
from bench.commands.results_archive import ABOUT
from bench.core.config import RunConfig
from bench.core.store import TENSORS
from bench.plan.plan import Plan, resolve
from bench.worlds import World

TINY = ("--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "nra", "--curve", "2")
RUN = RunConfig(("mimmu",), "smoke", "tiny", metrics=("ua", "nra"), curve=2)
TABLES = ("smoke-tiny.csv", "smoke-tiny-cells.csv", "smoke-tiny-concepts.csv", "smoke-tiny-curve.csv", "smoke-tiny.md")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert main.main([*TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def packed(finished: Path) -> Path:
    assert main.main(["pack", *TINY, "--out", str(finished), "--to", str(finished / "r.tar.xz")]) == 0
    return finished / "r.tar.xz"


def plan(out: Path, **changes: object) -> Plan:
    return resolve(dataclasses.replace(RUN, out=out, **changes))  # type: ignore[arg-type]


def estimate_of(plan: Plan) -> list[estimate.Ahead]:
    outcomes = Executor(plan).outcomes
    return estimate.ahead(outcomes, estimate.Past(outcomes, []))


def held(out: Path, kind: str) -> list[Path]:
    return sorted((out / ".store").glob(f"{kind}/*/{TENSORS}"))


def test_board_from_imported_results_is_equal_and_computes_nothing(
    finished: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*TINY, "--out", str(tmp_path), "--results", str(packed)]) == 0
    assert "has 3 of the 3 cells of this run" in capsys.readouterr().out
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name
    assert not held(tmp_path, "*")
    assert held(finished, "images")


@pytest.mark.huge
def test_report_shows_pictures_of_seed_with_images(finished: Path, packed: Path, tmp_path: Path) -> None:
    assert main.main([*TINY, "--out", str(tmp_path), "--results", str(packed)]) == 0
    assert "not in the store" in (tmp_path / "smoke-tiny.html").read_text()
    assert main.main([*TINY, "--seeds", "2", "--workers", "1", "--out", str(tmp_path), "--results", str(packed)]) == 0
    text = (tmp_path / "smoke-tiny.html").read_text()
    assert "not in the store" not in text
    assert "those of training seed 1." in text
    out = shutil.copytree(finished, tmp_path / "copy")
    assert main.main([*TINY, "--seeds", "2", "--workers", "1", "--out", str(out)]) == 0
    assert "those of training seed 0." in (out / "smoke-tiny.html").read_text()


def test_additional_method_is_the_only_one_computed(packed: Path, tmp_path: Path) -> None:
    more = [word if word != "mimmu" else "esd-x" for word in TINY]
    assert main.main([*more, "--out", str(tmp_path), "--results", str(packed)]) == 0
    weights = held(tmp_path, "deltas")
    assert [json.loads((file.parent / "record.json").read_text())["key"]["method"] for file in weights] == ["esd-x"]


def test_additional_metric_computes_weights_again(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*TINY, "drift", "--out", str(tmp_path), "--results", str(packed)]
    more.insert(more.index("nra") + 1, more.pop(more.index("drift")))
    assert main.main(more) == 0
    assert (
        "has 3 of the 3 cells of this run, without drift: for that they are computed again" in capsys.readouterr().out
    )
    assert held(tmp_path, "deltas")


def test_equal_results_give_equal_files(finished: Path, packed: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar.xz"
    results_archive.pack(plan(finished), again)
    assert again.read_bytes() == packed.read_bytes()
    results_archive.unpack(plan(tmp_path / "other"), packed)
    results_archive.pack(plan(tmp_path / "other"), tmp_path / "handed-on.tar.xz")
    assert (tmp_path / "handed-on.tar.xz").read_bytes() == packed.read_bytes()
    assert str(finished) not in json.dumps([*results_archive._members(packed)])


def test_unfinished_run_is_packed_with_count(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*TINY, "--seeds", "2", "--out", str(finished), "--to", str(tmp_path / "some.tar.xz")]
    assert main.main(["pack", *more]) == 1
    assert "3 of 6 cells" in capsys.readouterr().out
    assert main.main(["pack", *TINY, "--out", str(tmp_path / "empty"), "--to", str(tmp_path / "none.tar.xz")]) == 2
    assert "has no finished cell of this run" in capsys.readouterr().out
    assert not (tmp_path / "none.tar.xz").exists()


def test_results_that_do_not_fit_are_ignored_with_reason(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = plan(tmp_path, overrides={"mimmu": {"lr": "1e-4"}}, methods=("mimmu",))
    said = results_archive.unpack(other, packed)
    assert "has 2 of the 3 cells" in said  # the controls
    only = dict(results_archive._members(packed))
    only[ABOUT]["machine"]["versions"]["torch"] = "1.0"
    for name in [n for n in only if n != ABOUT]:
        del only[name]
    old = tmp_path / "old.tar.xz"
    results_archive._write(old, only)
    assert "none of its 3 cells fits this run here: they were made with torch 1.0, here" in results_archive.unpack(
        other, old
    )
    only[ABOUT]["machine"] = dict(results_archive._members(packed))[ABOUT]["machine"]
    results_archive._write(old, only)
    assert "or of another version of Lethe" in results_archive.unpack(other, old)


def damaged(packed: Path, to: Path, how: str) -> Path:
    if how == "cut off":
        to.write_bytes(packed.read_bytes()[:2000])
    elif how == "text":
        to.write_text("method,ua\n")
    elif how == "a folder":
        with tarfile.open(to, "w:xz") as tar:
            member = tarfile.TarInfo("deltas")
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
    elif how == "about nothing":
        with tarfile.open(to, "w:xz") as tar:
            tar.addfile(tarfile.TarInfo("deltas/x/record.json"), io.BytesIO())
    else:
        found = dict(results_archive._members(packed))
        name = next(n for n in found if n.startswith("scores/"))
        if how == "elsewhere":
            found[f"../{name}"] = found.pop(name)
        elif how == "another kind":
            found[name.replace("scores", "images")] = found.pop(name)
        elif how == "another key":
            found[name]["key"]["what"] = "better"
        results_archive._write(to, found)
    return to


@pytest.mark.parametrize(
    "how", ["cut off", "text", "a folder", "about nothing", "elsewhere", "another kind", "another key"]
)
def test_damaged_file_is_refused(packed: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = damaged(packed, tmp_path / "bad.tar.xz", how)
    assert main.main(["plan", *TINY, "--out", str(tmp_path / "out"), "--results", str(file)]) == 2
    assert "not a whole file of results" in capsys.readouterr().out
    assert not (tmp_path / "out" / ".store" / "scores").exists()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_flipped_bit_loses_no_record(packed: Path, tmp_path: Path, share: float) -> None:
    whole = bytearray(packed.read_bytes())
    whole[int(share * len(whole))] ^= 16
    (tmp_path / "bad.tar.xz").write_bytes(whole)
    with pytest.raises(ValueError, match="not a whole file of results"):
        results_archive.unpack(plan(tmp_path), tmp_path / "bad.tar.xz")
    (tmp_path / "short.tar.xz").write_bytes(packed.read_bytes()[:-4])
    with pytest.raises(ValueError, match="not a whole file of results"):
        results_archive.unpack(plan(tmp_path), tmp_path / "short.tar.xz")


@pytest.mark.parametrize(("name", "why"), [("none.tar.xz", "no such file"), (".", "a folder, not a file")])
def test_missing_file_is_refused(tmp_path: Path, name: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["plan", *TINY, "--out", str(tmp_path), "--results", str(tmp_path / name)]) == 2
    assert why in capsys.readouterr().out


def test_pack_refuses_folder(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["pack", *TINY, "--out", str(finished), "--to", str(tmp_path)]) == 2
    assert "this is a folder; name a file" in capsys.readouterr().out


def test_results_with_other_fingerprint_do_not_count(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [*TINY, "--out", str(tmp_path), "--results", str(packed), "--set", "protocol.images_per_concept=2"]
    assert main.main(["plan", *other]) == 0
    said = capsys.readouterr().out
    assert "3 of its cells are of this run, but were measured otherwise (fingerprint " in said
    assert "0 stored, 3 to do" in said
    few = {"protocol": {"images_per_concept": "2"}}
    (_, _, there), (_, _, new) = (estimate_of(plan(out, overrides=few)) for out in (tmp_path, tmp_path / "new"))
    assert (there.weights, there.draws) == (new.weights, new.draws)  # its weights did not come along
    assert there.seconds is not None


def test_export_computes_missing_weights_again(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = plan(tmp_path).tasks[0].name
    wanted = ["export", f"mimmu/{task}", "--to", str(tmp_path / "to")]
    assert main.main([*wanted, *TINY, "--out", str(tmp_path), "--results", str(packed)]) == 2
    said = capsys.readouterr().out
    assert "imported without the weights" in said
    again = shlex.split(said[said.index("run_bench.py") + len("run_bench.py") :])
    assert "--force" in again
    assert main.main(again) == 0
    assert main.main([*wanted, *TINY, "--out", str(tmp_path)]) == 0


def test_import_keeps_existing_entries(finished: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = {file: file.read_bytes() for file in (out / ".store").rglob("*") if file.is_file()}
    results_archive.unpack(plan(out), packed)
    assert {file: file.read_bytes() for file in (out / ".store").rglob("*") if file.is_file()} == before
