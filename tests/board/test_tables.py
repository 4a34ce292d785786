import copy
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.board import tables
from bench.board.tables import MixedFingerprints, board_frame, cells_frame, concepts_frame
from bench.report.terminal import each_judge

Result = tables.Result
NAMES = ("ua", "nra", "ora", "fid")  # a board of some metrics, as --metrics makes it


def result(method: str, task: str, ua: float, nra: float, ora: float, fid: float, **changes: object) -> Result:
    scores = {"ua": (ua, 10), "nra": (nra, 70), "ora": (ora, 160), "fid": (fid, 230)}
    return {
        "method": method, "fidelity": "control", "task": task, "band": "near", "seed": 0, "config": {"lr": 1e-5},
        "fingerprint": "f00d", "status": "ok", "extractor": "pocket-64", "compensation": "none",
        "scores": {name: {"value": value, "n": n} for name, (value, n) in scores.items()},
        "cost": {"seconds": 2.0, "steps": 4, "student_forwards": 4, "teacher_forwards": 4, "peak_bytes": 1,
                 "delta_bytes": 8},
        "data": {"forget_images": 64, "retain_images": 0, "anchor_prompts": 0},
        "concepts": [
            {"concept": task, "role": "forget", "distances": {"text": 0.0}, "judge": 0.95 if task == "tulip" else 1.0,
             "judge_n": 60, "judged_by": "species", "accuracy": 1 - ua, "n": 10},
        ],
        **changes,
    }  # fmt: skip


@pytest.fixture
def results() -> list[Result]:
    return [
        result("pretrained", "poodle", 0.0, 0.9, 1.0, 10.0),
        result("pretrained", "tulip", 0.2, 0.7, 1.0, 12.0),
        result("mimmu", "poodle", 1.0, 0.8, 1.0, 11.0),
        result("mimmu", "tulip", 0.8, 0.5, 0.9, 15.0),
    ]


def row(board: pd.DataFrame, method: str) -> pd.Series:
    (index,) = board.index[board["method"] == method]
    return board.loc[index]


def test_a_row_is_the_mean_of_its_cells(results: list[Result]) -> None:
    board = board_frame(results, NAMES, "full")
    assert board["method"].tolist() == ["pretrained", "mimmu"]
    mimmu = row(board, "mimmu")
    assert (mimmu["ua"], mimmu["nra"], mimmu["ora"], mimmu["fid"]) == pytest.approx((90, 65, 95, 13))
    assert mimmu["ua_lo"] < 80 < mimmu["ua"] < mimmu["ua_hi"] == 100  # two tasks say little; no more than all is gone
    assert (mimmu["ua_n"], mimmu["nra_n"], mimmu["ora_n"]) == (20, 140, 320)
    assert (mimmu["fid_n"], mimmu["fid_extractor"]) == (230, "pocket-64")  # of one cell: what FID's bias depends on
    assert (mimmu["seconds"], mimmu["cells"], mimmu["fingerprint"]) == (2.0, 2, "f00d")


def test_the_judges_own_accuracy_is_on_every_row(results: list[Result]) -> None:
    board = board_frame(results, NAMES, "full")
    assert board["judge"].tolist() == pytest.approx([97.5, 97.5])  # poodle 60 of 60, tulip 57 of 60, each counted once
    assert board["judge_n"].tolist() == [120, 120]


def test_a_drop_is_paired_with_pretrained_task_by_task(results: list[Result]) -> None:
    board = board_frame(results, NAMES, "full")
    mimmu = row(board, "mimmu")
    assert mimmu["nra_drop"] == pytest.approx(15)
    assert mimmu["nra_drop_lo"] < 10 < 20 < mimmu["nra_drop_hi"]
    assert mimmu["ora_drop"] == pytest.approx(5)
    assert row(board, "pretrained")["nra_drop"] == 0
    assert "ua_drop" not in board


def test_a_row_does_not_depend_on_the_other_methods(results: list[Result]) -> None:
    alone = row(board_frame(results, NAMES, "full"), "mimmu")
    rival = [result("salun", task, 1.0, 0.1, 0.1, 99.0) for task in ("poodle", "tulip")]
    among = row(board_frame([*rival, *reversed(results)], NAMES, "full"), "mimmu")
    pd.testing.assert_series_equal(alone, among, check_names=False)


@pytest.mark.parametrize("name", ["partial", "oracle"])
def test_what_lacks_a_task_has_figures_and_cells_but_no_rank(name: str) -> None:
    tasks = ("poodle", "tulip", "jay")
    rows = [result("mimmu", task, 1.0, 0.8, 1.0, 11.0) for task in tasks]
    rows += [result(name, task, 1.0, 1.0, 1.0, 11.0) for task in tasks[:2]]
    board = board_frame(rows, NAMES, "full")
    few = row(board, name)
    assert pd.isna(few["rank"])
    assert (few["h"], few["cells"], few["status"]) == (100, 2, "ok")
    assert row(board, "mimmu")["rank"] == 1


def test_a_failed_cell_takes_the_figures_and_says_so(results: list[Result]) -> None:
    failed = {k: v for k, v in results[3].items() if k not in ("scores", "cost", "data", "concepts", "extractor")}
    failed |= {"status": "failed", "reason": "NonFiniteLoss: loss is nan", "traceback": "somewhere/traceback.txt"}
    broken = [*results[:3], failed]
    mimmu = row(board_frame(broken, NAMES, "full"), "mimmu")
    assert mimmu["status"] == "1 failed of 2"
    assert mimmu[["ua", "nra", "ora", "fid", "ua_n", "seconds"]].isna().all()
    assert row(board_frame(broken, NAMES, "full"), "pretrained")["status"] == "ok"
    cells = cells_frame(broken, NAMES)
    assert len(cells) == 4
    last = cells.iloc[-1]
    assert (last["status"], last["reason"]) == ("failed", "NonFiniteLoss: loss is nan")
    assert last["traceback"] == "somewhere/traceback.txt"
    assert last[["ua", "ua_n", "steps"]].isna().all()


def test_without_pretrained_there_is_no_drop(results: list[Result]) -> None:
    mimmu = row(board_frame(results[1:], NAMES, "full"), "mimmu")  # pretrained is there for one of two tasks
    assert pd.isna(mimmu["nra_drop"])
    assert mimmu["nra"] == pytest.approx(65)


def test_mixed_fingerprints_are_refused(results: list[Result]) -> None:
    results[-1]["fingerprint"] = "beef"
    with pytest.raises(MixedFingerprints, match="beef"):
        board_frame(results, NAMES, "full")
    with pytest.raises(ValueError, match="no results"):
        board_frame([], NAMES, "full")


def test_a_cell_that_occurs_twice_is_refused(results: list[Result]) -> None:
    with pytest.raises(ValueError, match="occur twice"):
        cells_frame([*results, copy.deepcopy(results[0])], NAMES)


def test_where_there_are_several_judges_each_has_its_accuracy(results: list[Result]) -> None:
    for result in results:
        if result["task"] == "tulip":
            result["concepts"][0]["judged_by"] = "flowers"
    board = board_frame(results, NAMES, "full")
    assert board["judge"].tolist() == pytest.approx([97.5, 97.5])
    assert board["judge_flowers"].tolist() == pytest.approx([95, 95])
    assert board["judge_species"].tolist() == pytest.approx([100, 100])
    assert each_judge(board) == " (flowers 95.0, species 100.0)"


def test_unequal_fid_sizes_are_refused(results: list[Result]) -> None:
    results[-1]["scores"]["fid"]["n"] = 229
    with pytest.raises(ValueError, match="different numbers of images"):
        board_frame(results, NAMES, "full")


def test_concepts_are_listed_with_role_and_distance(results: list[Result]) -> None:
    frame = concepts_frame(results, NAMES)
    assert frame["accuracy"].tolist() == pytest.approx([100, 80, 0, 20])
    assert frame.columns.tolist() == [
        "method", "task", "band", "seed", "concept", "role", "distance_text", "judge", "judge_n", "judged_by",
        "accuracy", "n",
    ]  # fmt: skip


def test_files_are_written_and_read_back(results: list[Result], tmp_path: Path) -> None:
    tables.write(results, NAMES, tmp_path, "finegrained-tiny", "full", {"world": "tiny"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "finegrained-tiny-cells.csv", "finegrained-tiny-concepts.csv", "finegrained-tiny.csv", "finegrained-tiny.json"
    ]  # fmt: skip
    again = pd.read_csv(tmp_path / "finegrained-tiny.csv")
    assert again.columns[:5].tolist() == ["method", "fidelity", "status", "rank", "h"]
    assert again["nra"].tolist() == pytest.approx([80, 65])


@settings(max_examples=20)
@given(st.permutations(range(6)), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_the_order_of_tasks_changes_nothing(order: list[int], values: list[float]) -> None:
    results = [result("mimmu", f"task {i}", v, v / 2, 1 - v, 10 * v) for i, v in enumerate(values)]
    before = row(board_frame(results, NAMES, "full"), "mimmu")
    after = row(board_frame([results[i] for i in order], NAMES, "full"), "mimmu")
    assert after["cells"] == before["cells"] == 6
    for name in NAMES:
        assert after[name] == pytest.approx(before[name])
        assert after[f"{name}_n"] == before[f"{name}_n"]


def test_a_task_with_nothing_to_measure_counts_for_no_method(results: list[Result]) -> None:
    for one in results:
        if one["task"] == "tulip":
            one["scores"]["nra"] = None
    mimmu = row(board_frame(results, NAMES, "full"), "mimmu")
    assert (mimmu["nra"], mimmu["nra_n"], mimmu["nra_drop"]) == (pytest.approx(80), 70, pytest.approx(10))
    assert (mimmu["ua"], mimmu["ua_n"]) == (pytest.approx(90), 20)
    cells = cells_frame(results, NAMES).set_index(["method", "task"])
    assert cells.loc[("mimmu", "tulip"), ["nra", "nra_n"]].isna().all()
    for one in results:
        one["scores"]["nra"] = None
    assert row(board_frame(results, NAMES, "full"), "mimmu")[["nra", "nra_lo", "nra_n", "nra_drop"]].isna().all()


def test_a_finished_cell_without_a_figure_is_an_error(results: list[Result]) -> None:
    del results[-1]["scores"]["nra"]
    for table in (lambda: board_frame(results, NAMES, "full"), lambda: cells_frame(results, NAMES)):
        with pytest.raises(KeyError, match="nra"):
            table()
