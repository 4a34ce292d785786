"""The main job through the door, on the tiny world: every room is entered, every file written."""

import dataclasses
import math
import shutil
import weakref
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.boards import only

from bench.cells import artifacts, images, probe, weights
from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World
from methods import METHODS, Method
from metrics import METRICS, Evidence, Metric, Score

pytestmark = pytest.mark.usefixtures("plugged")

SMOKE = ("--world", "tiny", "--suite", "smoke", "--workers", "1")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished smoke run of both methods."""
    out = tmp_path_factory.mktemp("board")
    assert main.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(out)]) == 0
    return out


@pytest.fixture
def begun(finished: Path, tmp_path: Path) -> Path:
    """A folder with the store of that run and no board, so that a test computes only what it adds."""
    shutil.copytree(finished / ".store", tmp_path / "begun" / ".store", symlinks=True)
    return tmp_path / "begun"


def test_board_has_all_rows_and_columns(finished: Path) -> None:
    board = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    assert board.index.tolist() == ["pretrained", "wrecked", "mimmu", "salun"]
    assert (board["status"] == "ok").all()
    assert board["fingerprint"].nunique() == 1
    assert board["fidelity"].tolist() == ["control", "control", "reconstruction", "published"]
    assert board["ua_n"].tolist() == [3] * 4
    assert board["nra_n"].tolist() == board["ora_n"].tolist() == [6] * 4
    assert board["fid_n"].tolist() == [12] * 4
    assert board[["ua", "nra", "ora"]].stack().between(0, 100).all()
    assert board["fid"].gt(0).all()
    assert board[["twin_n", "headnoun_n", "plausible_n", "plausible_domain_n", "mi_n"]].eq(3).all(axis=None)
    assert board[["kid_n", "clip_n", "drift_n", "drift_latent_n"]].eq(12).all(axis=None)
    assert board.loc["pretrained", ["drift", "drift_latent", "twin_drop", "clip_drop"]].tolist() == [0, 0, 0, 0]
    assert board.loc[["wrecked", "mimmu", "salun"], ["drift", "drift_latent"]].gt(0).all(axis=None)  # to six decimals
    assert board.loc["wrecked", "mi"] == 0  # it predicts the same noise, none, whatever the prompt
    assert board.loc["pretrained", "mi"] > 0
    assert board.loc["mimmu", "compensation"] == "none"
    assert board.loc["salun", "compensation"] == "retain images + anchor prompts"
    assert board.loc["pretrained", ["nra_drop", "ora_drop"]].tolist() == [0, 0]


def test_board_is_mean_of_cells_and_concepts(finished: Path) -> None:
    board = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    cells = pd.read_csv(finished / "smoke-tiny-cells.csv").set_index("method")
    concepts = pd.read_csv(finished / "smoke-tiny-concepts.csv")
    assert cells["fid"].tolist() == board["fid"].tolist()
    assert cells.loc["mimmu", "steps"] == 4  # 8 forget images in batches of 4, two epochs
    kept = concepts[concepts["role"] != "forget"].groupby("method", sort=False)
    for name in ("clip", "drift", "drift_latent"):
        assert kept[name].mean().tolist() == pytest.approx(board[name].tolist(), abs=2e-4)
    by_role = concepts.groupby(["method", "role"])["accuracy"].mean().unstack()
    for method in board.index:
        assert board.loc[method, "ua"] == pytest.approx(100 - by_role.loc[method, "forget"], abs=1e-3)
        assert board.loc[method, "nra"] == pytest.approx(by_role.loc[method, "in_domain"], abs=1e-3)
        assert board.loc[method, "ora"] == pytest.approx(by_role.loc[method, "out_of_domain"], abs=1e-3)


def test_methods_change_images_and_controls_are_sampled_once(finished: Path) -> None:
    stored = [load_file(p) for p in sorted((finished / ".store" / "images").glob("*/tensors.safetensors"))]
    images = [s["images"] for s in stored if len(s["images"]) == 15]
    assert len(images) == 4
    assert sorted(len(s["images"]) for s in stored) == [3] * 4 + [15] * 4  # three more of the head noun alone
    assert all(s["images"].shape[1:] == (3, 64, 64) and s["latents"].shape[1:] == (4, 16, 16) for s in stored)
    assert not any(torch.equal(images[a], images[b]) for a in range(4) for b in range(a))


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("computed again")


def test_second_run_computes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "smoke-tiny.csv").read_text()
    monkeypatch.setattr(artifacts.pipeline, "load", refuse)
    assert main.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(finished)]) == 0
    assert (finished / "smoke-tiny.csv").read_text() == before


def test_new_metric_draws_no_image(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(given: Evidence) -> Score:
        assert given.pretrained is not None
        return given.mean([0.25] * len(given.requested), given.forget)

    new = Metric(
        "new", "a test", "", True, 0, 1, "a test", compute, needs=("pretrained", "headnoun", "probe", "prompt_probes")
    )
    monkeypatch.setattr(artifacts.pipeline, "load", refuse)
    monkeypatch.setattr(artifacts.Judgements, "compute", refuse)  # nor is any image judged again
    out = ("--out", str(finished))
    with METRICS.temporarily():
        METRICS.add("new", new)
        assert main.main([*SMOKE, "--methods", "mimmu", "salun", "--metrics", "new", "ua", *out]) == 0
        board = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
        assert board.columns[2:7].tolist() == ["rank", "ua", "ua_lo", "ua_hi", "ua_n"]
        assert board.columns[7:11].tolist() == ["new", "new_lo", "new_hi", "new_n"]
        assert board["new"].tolist() == [0.25] * 4
        assert not {"nra", "fid", "drift"} & set(board)
        assert {"seconds", "peak_bytes"} <= set(board)
        nan = dataclasses.replace(new, name="nan", compute=lambda given: Score(math.nan, 1))
        METRICS.add("nan", nan)
        assert main.main([*SMOKE, "--methods", "mimmu", "--metrics", "nan", *out]) == 1
        cells = pd.read_csv(finished / "smoke-tiny-cells.csv")
        assert cells["reason"].tolist() == ["ArithmeticError: nan is nan, which is not a finite number"] * 3
    assert main.main([*SMOKE, "--methods", "mimmu", "salun", *out]) == 0  # the whole board again, from the store
    assert "new" not in pd.read_csv(finished / "smoke-tiny.csv")


def test_unselected_metrics_are_not_computed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "gaps", refuse)
    monkeypatch.setattr(probe, "prompt_gaps", refuse)
    sampled = []
    original = images.sample
    monkeypatch.setattr(images, "sample", lambda *a, **k: sampled.append(len(a[1])) or original(*a, **k))
    arguments = [*SMOKE, "--methods", "pretrained", "--metrics", "ua", "cost", "--out", str(tmp_path)]
    assert main.main(arguments) == 0
    assert sorted(sampled) == [8, 15, 15]  # what methods learn from, pretrained and wrecked; no head nouns
    assert [c for c in pd.read_csv(tmp_path / "smoke-tiny.csv") if c.endswith("_n")] == ["ua_n", "judge_n"]


def test_collect_writes_tables_from_store(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(finished.glob("smoke-tiny*"))
    before = {path: path.read_text() for path in files}
    assert len(files) == 6
    for path in files:
        path.unlink()
    monkeypatch.setattr(artifacts.pipeline, "load", refuse)
    assert main.main(["collect", *SMOKE, "--methods", "mimmu", "salun", "--out", str(finished)]) == 0
    assert {path: path.read_text() for path in files} == before
    few = ("--metrics", "ua", "drift")  # of a full run, any metrics can be shown alone
    assert main.main(["collect", *SMOKE, "--methods", "mimmu", "salun", *few, "--out", str(finished)]) == 0
    board = pd.read_csv(finished / "smoke-tiny.csv")
    assert board["status"].tolist() == ["ok"] * 4
    assert "drift" in board
    assert "nra" not in board
    assert main.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(finished)]) == 0


def test_collect_reports_missing_cells(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["collect", *SMOKE, "--out", str(tmp_path)]) == 2
    assert "has no result of this run" in capsys.readouterr().out
    assert not [*tmp_path.glob("*.csv")]
    assert main.main([*SMOKE, "--methods", "pretrained", "--metrics", "ua", "--out", str(tmp_path)]) == 0
    assert main.main(["collect", *SMOKE, "--methods", "mimmu", "--metrics", "ua", "--out", str(tmp_path)]) == 1
    board = pd.read_csv(tmp_path / "smoke-tiny.csv")
    assert board["status"].tolist() == ["ok", "ok", "1 not run of 1"]
    assert board["ua"].isna().tolist() == [False, False, True]


def test_force_computes_named_method_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned = []
    original = weights.Weights.compute

    def spy(self: weights.Weights, cell: object) -> object:
        unlearned.append(cell.method)  # type: ignore[attr-defined]
        return original(self, cell)  # type: ignore[arg-type]

    monkeypatch.setattr(weights.Weights, "compute", spy)
    before = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    assert main.main([*SMOKE, "--methods", "mimmu", "--force", "--out", str(finished)]) == 0
    assert unlearned == ["mimmu"]
    after = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    assert after.index.tolist() == ["pretrained", "wrecked", "mimmu"]
    columns = ["ua", "nra", "ora", "fid"]
    pd.testing.assert_frame_equal(after[columns], before.loc[after.index, columns])


def test_added_method_is_the_only_one_computed(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nudge(Method):
        about = source = "a test"
        fidelity = "control"

        def edit(self, harness: object) -> None:
            with torch.no_grad():
                for parameter in harness.trained.values():  # type: ignore[attr-defined]
                    parameter.mul_(1.5)

    METHODS.add("nudge", Nudge)
    sampled = []
    original = images.sample
    monkeypatch.setattr(images, "sample", lambda *a, **k: sampled.append(1) or original(*a, **k))
    assert main.main([*SMOKE, "--methods", "mimmu", "salun", "nudge", "--out", str(finished)]) == 0
    assert sampled == [1, 1]  # evaluation prompts, head nouns
    assert "nudge" in capsys.readouterr().out


class Fails(Method):
    """Breaks on purpose."""

    about = source = "a test"
    fidelity = "control"

    def edit(self, harness: object) -> None:
        raise MemoryError("no room")


def test_failed_cell_has_row_and_run_continues(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    METHODS.add("fails", Fails)
    arguments = [*SMOKE, "--methods", "fails", "mimmu", "--metrics", "ua", "nra", "ora", "fid", "--out", str(begun)]
    assert main.main(arguments) == 1
    board = pd.read_csv(begun / "smoke-tiny.csv").set_index("method")
    assert board["status"].to_dict() == {"pretrained": "ok", "wrecked": "ok", "fails": "1 failed of 1", "mimmu": "ok"}
    assert board.loc["fails", ["ua", "nra", "ora", "fid"]].isna().all()
    cells = pd.read_csv(begun / "smoke-tiny-cells.csv").set_index("method")
    assert cells.loc["fails", "reason"] == "MemoryError: no room"
    assert "raise MemoryError" in (begun / cells.loc["fails", "traceback"]).read_text()
    assert "MemoryError: no room" in capsys.readouterr().out
    assert main.main(["collect", *arguments]) == 1  # a failure is remembered ...

    monkeypatch.setattr(Fails, "edit", lambda self, harness: None)
    assert main.main(arguments) == 0  # ... and tried again


def test_cell_after_out_of_memory_has_free_memory(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    emptied: list[bool] = []

    class Fills(Fails):
        def edit(self, harness: object) -> None:
            big = torch.zeros(1000)
            held.append(weakref.ref(big))
            big.circle = big  # type: ignore[attr-defined]  # what only the garbage collector finds
            raise torch.OutOfMemoryError("CUDA out of memory")

    METHODS.add("fills", Fills)
    run = RunConfig(("fills",), "smoke", "tiny", out=tmp_path)
    executor = Executor(resolve(run))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(held[0]() is None))
    executor._judges_known = True  # else the images of the untouched model would be judged first
    executor.context._backbone = artifacts.pipeline.load(executor.plan.folder, torch.device("cpu"))
    executor.context.device = torch.device("cuda")  # as far as giving memory back is concerned
    result = executor.run(executor.plan.cells[-1])
    assert result.reason == "OutOfMemoryError: CUDA out of memory"
    assert emptied == [True]


def test_interrupt_keeps_finished_stages_and_prints_resume_command(
    begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stops(Fails):
        def edit(self, harness: object) -> None:
            raise KeyboardInterrupt

    METHODS.add("stops", Stops)
    arguments = [*SMOKE, "--methods", "stops", "--metrics", "ua", "--out", str(begun)]
    assert main.main(arguments) == 130
    told = capsys.readouterr().out
    assert "stopped after 2 of 3 cells" in told
    assert f"python run_bench.py {' '.join(SMOKE)} --methods stops --metrics ua --out {begun}" in told
    monkeypatch.setattr(Stops, "edit", lambda self, harness: None)
    sampled = []
    original = images.sample
    monkeypatch.setattr(images, "sample", lambda *a, **k: sampled.append(1) or original(*a, **k))
    assert main.main(arguments) == 0
    assert sampled == []  # changing nothing gives the pretrained model's images, which are there


def test_resume_command_negates_force_of_file(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stops(Fails):
        def edit(self, harness: object) -> None:
            raise KeyboardInterrupt

    METHODS.add("stops", Stops)
    file = tmp_path / "run.yaml"
    file.write_text(f"force: true\nmethods: stops\nworld: tiny\nsuite: smoke\nworkers: 1\nout: {begun}\n")
    assert main.main(["run", "--config", str(file), "--metrics", "ua"]) == 130
    told = capsys.readouterr().out
    assert f"python run_bench.py run --config {file} --metrics ua --no-force" in told


def test_plan_computes_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artifacts.pipeline, "load", refuse)
    assert main.main(["plan", *SMOKE, "--methods", "mimmu", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("to do") == 9 + 1
    assert "3 cells: 0 stored, 3 to do" in told
    assert list(tmp_path.iterdir()) == []
    assert main.main(["plan", *SMOKE, "--methods", "mimmu", "--out", str(finished)]) == 0
    assert "3 cells: 3 stored, 0 to do" in capsys.readouterr().out


def test_settings_reach_method(world: World, tmp_path: Path) -> None:
    arguments = ["--methods", "mimmu", "--set", "mimmu.epochs=3", "protocol.images_per_concept=2", "--seeds", "4,5"]
    arguments += ["--metrics", "ua"]
    assert main.main([*SMOKE, *arguments, "--out", str(tmp_path)]) == 0
    cells = pd.read_csv(only(tmp_path, "-cells.csv"))
    assert cells.loc[cells["method"] == "mimmu", "steps"].tolist() == [6, 6]
    assert cells.loc[cells["method"] == "mimmu", "seed"].tolist() == [4, 5]
    assert cells["ua_n"].unique().tolist() == [2]


def test_run_with_other_backbone(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    arguments = [
        *SMOKE,
        "--methods",
        "mimmu",
        "--metrics",
        "ua",
        "--backbone",
        str(pipeline_folder),
        "--out",
        str(tmp_path),
    ]
    assert main.main(arguments) == 0
