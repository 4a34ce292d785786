"""The main job through the door, on the tiny world: every room is entered, every file written."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from bench import cli, stages
from bench.worlds import World
from methods import METHODS, Method
from metrics import METRICS

SMOKE = ("--world", "tiny", "--suite", "smoke")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished smoke run of both methods."""
    out = tmp_path_factory.mktemp("board")
    assert cli.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(out)]) == 0
    return out


def test_the_board_is_whole(finished: Path) -> None:
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
    assert board.loc["mimmu", "compensation"] == "none"
    assert board.loc["salun", "compensation"] == "retain images + anchor prompts"
    assert board.loc["pretrained", ["nra_drop", "ora_drop"]].tolist() == [0, 0]


def test_cells_and_concepts_add_up_to_the_board(finished: Path) -> None:
    board = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    cells = pd.read_csv(finished / "smoke-tiny-cells.csv").set_index("method")
    concepts = pd.read_csv(finished / "smoke-tiny-concepts.csv")
    assert cells["fid"].tolist() == board["fid"].tolist()
    assert cells.loc["mimmu", "steps"] == 4  # 8 forget images in batches of 4, two epochs
    by_role = concepts.groupby(["method", "role"])["accuracy"].mean().unstack()
    for method in board.index:
        assert board.loc[method, "ua"] == pytest.approx(100 - by_role.loc[method, "forget"], abs=1e-3)
        assert board.loc[method, "nra"] == pytest.approx(by_role.loc[method, "in_domain"], abs=1e-3)
        assert board.loc[method, "ora"] == pytest.approx(by_role.loc[method, "out_of_domain"], abs=1e-3)


def test_methods_change_the_images_and_controls_are_sampled_once(finished: Path) -> None:
    images = [load_file(p)["images"] for p in sorted((finished / ".store" / "images").glob("*/tensors.safetensors"))]
    assert len(images) == 4
    assert all(i.shape == (15, 3, 64, 64) for i in images)
    assert not any(torch.equal(images[a], images[b]) for a in range(4) for b in range(a))


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("computed again")


def test_a_second_run_computes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "smoke-tiny.csv").read_text()
    monkeypatch.setattr(stages.backbone, "load", refuse)
    assert cli.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(finished)]) == 0
    assert (finished / "smoke-tiny.csv").read_text() == before


def test_collecting_rebuilds_the_tables(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(finished.glob("smoke-tiny*"))
    before = {path: path.read_text() for path in files}
    assert len(files) == 4
    for path in files:
        path.unlink()
    monkeypatch.setattr(stages.backbone, "load", refuse)
    assert cli.main([*SMOKE, "--methods", "mimmu", "salun", "--out", str(finished), "--collect"]) == 0
    assert {path: path.read_text() for path in files} == before


def test_collecting_says_what_has_not_run(world: World, tmp_path: Path) -> None:
    assert cli.main([*SMOKE, "--out", str(tmp_path), "--collect"]) == 0
    board = pd.read_csv(tmp_path / "smoke-tiny.csv")
    assert board["status"].tolist() == ["1 not run of 1"] * 4
    assert board[["ua", "fid"]].isna().all(axis=None)


def test_force_computes_the_named_method_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned = []
    original = stages.Stages._unlearn

    def spy(self: stages.Stages, cell: object) -> object:
        unlearned.append(cell.method)  # type: ignore[attr-defined]
        return original(self, cell)  # type: ignore[arg-type]

    monkeypatch.setattr(stages.Stages, "_unlearn", spy)
    before = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    assert cli.main([*SMOKE, "--methods", "mimmu", "--force", "--out", str(finished)]) == 0
    assert unlearned == ["mimmu"]
    after = pd.read_csv(finished / "smoke-tiny.csv").set_index("method")
    assert after.index.tolist() == ["pretrained", "wrecked", "mimmu"]
    columns = ["ua", "nra", "ora", "fid"]
    pd.testing.assert_frame_equal(after[columns], before.loc[after.index, columns])


def test_adding_a_method_computes_that_method_only(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nudge(Method):
        about = source = "a test"
        fidelity = "control"

        def edit(self, harness: object) -> None:
            with torch.no_grad():
                for parameter in harness.trained.values():  # type: ignore[attr-defined]
                    parameter.mul_(1.5)

    monkeypatch.setitem(METHODS._entries, "nudge", Nudge)
    sampled = []
    original = stages.sample
    monkeypatch.setattr(stages, "sample", lambda *a, **k: sampled.append(1) or original(*a, **k))
    assert cli.main([*SMOKE, "--methods", "mimmu", "salun", "nudge", "--out", str(finished)]) == 0
    assert sampled == [1]
    assert "nudge" in capsys.readouterr().out


class Fails(Method):
    """Breaks on purpose."""

    about = source = "a test"
    fidelity = "control"

    def edit(self, harness: object) -> None:
        raise MemoryError("no room")


def test_a_failed_cell_is_a_row_and_the_run_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METHODS._entries, "fails", Fails)
    arguments = [*SMOKE, "--methods", "fails", "mimmu", "--out", str(tmp_path)]
    assert cli.main(arguments) == 1
    board = pd.read_csv(tmp_path / "smoke-tiny.csv").set_index("method")
    assert board["status"].to_dict() == {"pretrained": "ok", "wrecked": "ok", "fails": "1 failed of 1", "mimmu": "ok"}
    assert board.loc["fails", ["ua", "nra", "ora", "fid"]].isna().all()
    cells = pd.read_csv(tmp_path / "smoke-tiny-cells.csv").set_index("method")
    assert cells.loc["fails", "reason"] == "MemoryError: no room"
    assert "raise MemoryError" in Path(cells.loc["fails", "traceback"]).read_text()
    assert "MemoryError: no room" in capsys.readouterr().out
    assert cli.main([*arguments, "--collect"]) == 1  # a failure is remembered ...

    monkeypatch.setattr(Fails, "edit", lambda self, harness: None)
    assert cli.main(arguments) == 0  # ... and tried again


def test_ctrl_c_keeps_finished_stages_and_says_how_to_go_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stops(Fails):
        def edit(self, harness: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(METHODS._entries, "stops", Stops)
    arguments = [*SMOKE, "--methods", "stops", "--out", str(tmp_path)]
    assert cli.main(arguments) == 130
    told = capsys.readouterr().out
    assert "stopped after 2 of 3 cells" in told
    assert f"python run_bench.py --world tiny --suite smoke --methods stops --out {tmp_path}" in told
    monkeypatch.setattr(Stops, "edit", lambda self, harness: None)
    sampled = []
    original = stages.sample
    monkeypatch.setattr(stages, "sample", lambda *a, **k: sampled.append(1) or original(*a, **k))
    assert cli.main(arguments) == 0
    assert sampled == []  # changing nothing gives the pretrained model's images, which are there


def test_a_plan_computes_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages.backbone, "load", refuse)
    assert cli.main([*SMOKE, "--methods", "mimmu", "--plan", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("to do") == 9
    assert list(tmp_path.iterdir()) == []
    assert cli.main([*SMOKE, "--methods", "mimmu", "--plan", "--out", str(finished)]) == 0
    assert "to do" not in capsys.readouterr().out


@pytest.mark.parametrize("what", ["methods", "suites", "worlds", "metrics"])
def test_lists_name_everything(world: World, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", what]) == 0
    told = capsys.readouterr().out
    names = {"methods": METHODS.names(), "metrics": METRICS.names(), "worlds": ("pocket", "tiny"),
             "suites": ("finegrained", "smoke")}[what]  # fmt: skip
    assert all(name in told for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "mimum"], "did you mean 'mimmu'"),
        (["--suite", "smok"], "did you mean 'smoke'"),
        (["--set", "mimmu.learning_rate=1"], "mimmu has no setting 'learning_rate'"),
        (["--set", "mimmu.epochs=many"], "mimmu.epochs takes int, not 'many'"),
        (["--methods", "salun", "--set", "mimmu.lr=1"], "nothing called 'mimmu'"),
        (["--backbone", "./nowhere"], "no diffusers pipeline"),
    ],
)
def test_mistakes_are_explained_before_any_model_is_loaded(
    world: World,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stages.panel, "Panel", refuse)
    assert cli.main([*SMOKE, "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().out.replace("\n", " ")


def test_settings_reach_the_method(world: World, tmp_path: Path) -> None:
    arguments = ["--methods", "mimmu", "--set", "mimmu.epochs=3", "protocol.images_per_concept=2", "--seeds", "4", "5"]
    assert cli.main([*SMOKE, *arguments, "--out", str(tmp_path)]) == 0
    cells = pd.read_csv(tmp_path / "smoke-tiny-cells.csv")
    assert cells.loc[cells["method"] == "mimmu", "steps"].tolist() == [6, 6]
    assert cells.loc[cells["method"] == "mimmu", "seed"].tolist() == [4, 5]
    assert cells["ua_n"].unique().tolist() == [2]


def test_another_backbone_takes_the_same_way(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    arguments = [*SMOKE, "--methods", "mimmu", "--backbone", str(pipeline_folder), "--out", str(tmp_path)]
    assert cli.main(arguments) == 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    assert "python run_bench.py --methods mimmu salun --suite finegrained" in capsys.readouterr().out
