import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support.boards import only

from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.report.replacing import OtherBoard, differences, flat, require_same_configuration
from bench.worlds import World

SMOKE = ("--world", "tiny", "--suite", "smoke", "--metrics", "ua", "--workers", "1")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one method."""
    out = tmp_path_factory.mktemp("finished")
    assert main.main([*SMOKE, "--methods", "mimmu", "--out", str(out)]) == 0
    return out


@pytest.fixture
def board(finished: Path, tmp_path: Path) -> Path:
    """The table of that run, in a folder that a test may change."""
    shutil.copytree(finished, tmp_path / "out")
    return only(tmp_path / "out")


def check(board: Path, known: bool = True, **changes: object) -> None:
    run = RunConfig(("mimmu",), "smoke", "tiny", metrics=("ua",), out=board.parent)
    require_same_configuration(Executor(resolve(dataclasses.replace(run, **changes))), known)  # type: ignore[arg-type]


def describe(board: Path, change: Callable[[dict], object]) -> None:
    """Rewrite the description of a board."""
    file = board.with_suffix(".json")
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))


def configure(board: Path, method: str, **settings: object) -> None:
    """Rewrite the settings of a method in the cells of a board."""
    file = board.with_name(f"{board.stem}-cells.csv")
    cells = pd.read_csv(file)
    rows = cells["method"] == method
    cells.loc[rows, "config"] = [json.dumps({**json.loads(text), **settings}) for text in cells.loc[rows, "config"]]
    cells.to_csv(file, index=False)


def test_board_of_same_configuration_is_replaced(board: Path) -> None:
    more = ["--methods", "mimmu", "salun", "--seeds", "2", "--out", str(board.parent)]
    assert main.main([*SMOKE, *more]) == 0
    assert pd.read_csv(board)["method"].tolist() == ["pretrained", "wrecked", "mimmu", "salun"]
    check(board, methods=("salun",), seeds=(3,), metrics=("all",), curve=2)
    check(board, methods=("pretrained",))


CHANGES: list[tuple[Callable[[dict], object], str]] = [
    (lambda d: d["protocol"].update(guidance_scale=9.5), "protocol.guidance_scale: 9.5 there, 3.0 here"),
    (lambda d: d.update(panel="other"), 'panel: "other" there, '),
    (lambda d: d.update(backbone="other"), 'backbone: "other" there, '),
    (lambda d: d.update(chosen={"CLIP": "none"}), 'chosen.CLIP: "none" there, unset here'),
    (lambda d: d["tasks"][0].update(after="x"), "tasks."),
    (lambda d: d["tasks"].clear(), "tasks: [] there, unset here"),
    (lambda d: d.update(device="a card"), 'device: "a card" there, '),
    (lambda d: d["versions"].update(torch="0.1"), 'versions.torch: "0.1" there, '),
    (lambda d: d.update(raised={"images": 7}), "raised.images: 7 there, unset here"),
    (lambda d: d.update(raised={"metric ua": 7}), "raised.metric ua: 7 there, unset here"),
    (lambda d: d["protocol"].pop("lora_rank"), "protocol.lora_rank: unset there, 4 here"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said.partition(":")[0] for _, said in CHANGES])
def test_board_with_other_protocol_is_not_replaced(board: Path, change: Callable[[dict], object], said: str) -> None:
    describe(board, change)
    with pytest.raises(OtherBoard) as caught:
        check(board)
    assert said in str(caught.value)
    assert str(board) in str(caught.value)
    check(board, overwrite=True)


def test_board_with_other_method_settings_is_not_replaced(board: Path) -> None:
    configure(board, "mimmu", lr=0.5)
    with pytest.raises(OtherBoard, match=r"mimmu\.lr: 0\.5 there, 0\.001 here"):
        check(board)
    check(board, methods=("salun",))  # its own methods have the same settings


def test_versions_of_unshared_metrics_are_not_compared(board: Path) -> None:
    describe(board, lambda d: d.update(raised={"metric fid": 7}))
    check(board)


def test_unknown_machine_is_not_compared(board: Path) -> None:
    describe(board, lambda d: (d.update(device="a card"), d["versions"].update(torch="0.1")))
    check(board, known=False)
    with pytest.raises(OtherBoard):
        check(board)


def test_board_without_description_is_not_replaced(board: Path) -> None:
    board.with_suffix(".json").write_text("{")
    with pytest.raises(OtherBoard, match="no description that can be read"):
        check(board)


def test_board_without_finished_cell_is_replaced(board: Path) -> None:
    describe(board, lambda d: d.update(device="a card"))
    file = board.with_name(f"{board.stem}-cells.csv")
    pd.read_csv(file).assign(status="failed").to_csv(file, index=False)
    check(board)


def test_message_counts_many_differences_and_cuts_long_values(board: Path) -> None:
    describe(board, lambda d: d.update({f"setting {i}": "a" * 100 for i in range(9)}))
    with pytest.raises(OtherBoard) as caught:
        check(board)
    assert str(caught.value).count(" there, ") == 5
    assert "and 4 more differences" in str(caught.value)
    assert "a" * 60 not in str(caught.value)


def test_flat_gives_dotted_names() -> None:
    assert flat({"a": {"b": 1}, "c": [1], "d": [{"name": "x", "y": 2}]}) == {
        "a.b": 1, "c": [1], "d.x.name": "x", "d.x.y": 2
    }  # fmt: skip


def test_missing_board_has_no_differences(tmp_path: Path) -> None:
    assert [*differences(tmp_path / "x.csv", {}, {}, ())] == []


@pytest.mark.parametrize("how", [[], ["collect"]])
def test_command_refuses_before_computing(board: Path, how: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    describe(board, lambda d: d["protocol"].update(guidance_scale=9.5))
    files = {path: path.read_bytes() for path in board.parent.rglob("*") if path.is_file()}
    command = [*how, *SMOKE, "--methods", "mimmu", "salun", "--out", str(board.parent)]
    capsys.readouterr()
    assert main.main(command) == main.USAGE
    told = capsys.readouterr().out
    assert "protocol.guidance_scale: 9.5 there, 3.0 here" in told
    assert "--overwrite" in told
    assert {path: path.read_bytes() for path in board.parent.rglob("*") if path.is_file()} == files
    assert main.main([*command, "--overwrite"]) == (main.FAILED if how else main.OK)
    assert "9.5" not in board.with_suffix(".json").read_text()
    assert "--overwrite" not in board.with_suffix(".html").read_text()
    assert main.main(command) == (main.FAILED if how else main.OK)
