import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.results import cell_result, concept, failed, with_score

from bench.board import tables
from bench.board.tables import MixedFingerprints, board_frame, cells_frame, concepts_frame
from bench.core.results import CellResult
from bench.core.score import Score
from bench.report.terminal import each_judge

NAMES = ("ua", "nra", "ora", "fid")  # a board of some metrics, as --metrics makes it


def result(method: str, task: str, ua: float, nra: float, ora: float, fid: float, **changes: Any) -> CellResult:
    scores = {"ua": Score(ua, 10), "nra": Score(nra, 70), "ora": Score(ora, 160), "fid": Score(fid, 230)}
    concepts = (concept(task, "forget", 1 - ua, judge=0.95 if task == "tulip" else 1.0),)
    usual = {"band": "near", "extractor": "pocket-64", "scores": scores, "concepts": concepts}
    return cell_result(method, task, 2.0, **usual | changes)


@pytest.fixture
def results() -> list[CellResult]:
    return [
        result("pretrained", "poodle", 0.0, 0.9, 1.0, 10.0),
        result("pretrained", "tulip", 0.2, 0.7, 1.0, 12.0),
        result("mimmu", "poodle", 1.0, 0.8, 1.0, 11.0),
        result("mimmu", "tulip", 0.8, 0.5, 0.9, 15.0),
    ]


def row(board: pd.DataFrame, method: str) -> pd.Series:
    (index,) = board.index[board["method"] == method]
    return board.loc[index]


def test_a_row_is_the_mean_of_its_cells(results: list[CellResult]) -> None:
    board = board_frame(results, NAMES, "full")
    assert board["method"].tolist() == ["pretrained", "mimmu"]
    mimmu = row(board, "mimmu")
    assert (mimmu["ua"], mimmu["nra"], mimmu["ora"], mimmu["fid"]) == pytest.approx((90, 65, 95, 13))
    assert mimmu["ua_lo"] < 80 < mimmu["ua"] < mimmu["ua_hi"] == 100  # two tasks say little; no more than all is gone
    assert (mimmu["ua_n"], mimmu["nra_n"], mimmu["ora_n"]) == (20, 140, 320)
    assert (mimmu["fid_n"], mimmu["fid_extractor"]) == (230, "pocket-64")  # of one cell: what FID's bias depends on
    assert (mimmu["seconds"], mimmu["cells"], mimmu["fingerprint"]) == (2.0, 2, "f00d")


def test_the_judges_own_accuracy_is_on_every_row(results: list[CellResult]) -> None:
    board = board_frame(results, NAMES, "full")
    assert board["judge"].tolist() == pytest.approx([97.5, 97.5])  # poodle 60 of 60, tulip 57 of 60, each counted once
    assert board["judge_n"].tolist() == [120, 120]


def test_a_drop_is_paired_with_pretrained_task_by_task(results: list[CellResult]) -> None:
    board = board_frame(results, NAMES, "full")
    mimmu = row(board, "mimmu")
    assert mimmu["nra_drop"] == pytest.approx(15)
    assert mimmu["nra_drop_lo"] < 10 < 20 < mimmu["nra_drop_hi"]
    assert mimmu["ora_drop"] == pytest.approx(5)
    assert row(board, "pretrained")["nra_drop"] == 0
    assert "ua_drop" not in board


def test_a_row_does_not_depend_on_the_other_methods(results: list[CellResult]) -> None:
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


def test_a_failed_cell_takes_the_figures_and_says_so(results: list[CellResult]) -> None:
    broken = [*results[:3], failed(results[3], "NonFiniteLoss: loss is nan", "somewhere/traceback.txt")]
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


def test_without_pretrained_there_is_no_drop(results: list[CellResult]) -> None:
    mimmu = row(board_frame(results[1:], NAMES, "full"), "mimmu")  # pretrained is there for one of two tasks
    assert pd.isna(mimmu["nra_drop"])
    assert mimmu["nra"] == pytest.approx(65)


def test_mixed_fingerprints_are_refused(results: list[CellResult]) -> None:
    results[-1] = dataclasses.replace(results[-1], fingerprint="beef")
    with pytest.raises(MixedFingerprints, match="beef"):
        board_frame(results, NAMES, "full")
    with pytest.raises(ValueError, match="no results"):
        board_frame([], NAMES, "full")


def test_a_cell_that_occurs_twice_is_refused(results: list[CellResult]) -> None:
    with pytest.raises(ValueError, match="occur twice"):
        cells_frame([*results, dataclasses.replace(results[0], config={})], NAMES)


def test_where_there_are_several_judges_each_has_its_accuracy(results: list[CellResult]) -> None:
    for i, one in enumerate(results):
        if one.task == "tulip":
            judged = dataclasses.replace(one.concepts[0], judged_by="flowers")
            results[i] = dataclasses.replace(one, concepts=(judged,))
    board = board_frame(results, NAMES, "full")
    assert board["judge"].tolist() == pytest.approx([97.5, 97.5])
    assert board["judge_flowers"].tolist() == pytest.approx([95, 95])
    assert board["judge_species"].tolist() == pytest.approx([100, 100])
    assert each_judge(board) == " (flowers 95.0, species 100.0)"


def test_unequal_fid_sizes_are_refused(results: list[CellResult]) -> None:
    results[-1] = with_score(results[-1], "fid", Score(15.0, 229))
    with pytest.raises(ValueError, match="different numbers of images"):
        board_frame(results, NAMES, "full")


def test_concepts_are_listed_with_role_and_distance(results: list[CellResult]) -> None:
    frame = concepts_frame(results, NAMES)
    assert frame["accuracy"].tolist() == pytest.approx([100, 80, 0, 20])
    assert frame.columns.tolist() == [
        "method", "task", "band", "seed", "concept", "role", "distance_text", "judge", "judge_n", "judged_by",
        "accuracy", "n",
    ]  # fmt: skip


def test_files_are_written_and_read_back(results: list[CellResult], tmp_path: Path) -> None:
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


def test_a_task_with_nothing_to_measure_counts_for_no_method(results: list[CellResult]) -> None:
    for i, one in enumerate(results):
        if one.task == "tulip":
            results[i] = with_score(one, "nra", None)
    mimmu = row(board_frame(results, NAMES, "full"), "mimmu")
    assert (mimmu["nra"], mimmu["nra_n"], mimmu["nra_drop"]) == (pytest.approx(80), 70, pytest.approx(10))
    assert (mimmu["ua"], mimmu["ua_n"]) == (pytest.approx(90), 20)
    cells = cells_frame(results, NAMES).set_index(["method", "task"])
    assert cells.loc[("mimmu", "tulip"), ["nra", "nra_n"]].isna().all()
    nothing = [with_score(one, "nra", None) for one in results]
    assert row(board_frame(nothing, NAMES, "full"), "mimmu")[["nra", "nra_lo", "nra_n", "nra_drop"]].isna().all()


def test_a_finished_cell_without_a_figure_is_an_error(results: list[CellResult]) -> None:
    fewer = {name: score for name, score in results[-1].scores.items() if name != "nra"}
    results[-1] = dataclasses.replace(results[-1], scores=fewer)
    for table in (lambda: board_frame(results, NAMES, "full"), lambda: cells_frame(results, NAMES)):
        with pytest.raises(KeyError, match="nra"):
            table()
