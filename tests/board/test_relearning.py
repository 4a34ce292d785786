import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requested import NAMES, finetuned

from bench.board import relearning
from bench.board import tables as board_tables
from bench.core.results import CellResult
from bench.report import terminal

UNRELATED, LORA = "unrelated, full", "retained, lora"
KINDS = (UNRELATED, LORA, "5 pictures", "20 pictures")


def results() -> list[CellResult]:
    """Two concepts; the untouched model shows one always, the other in 8 of 10 pictures."""
    out = []
    for of, before in (("tulip", 1.0), ("poodle", 0.8)):
        for kind in KINDS:
            out.append(finetuned("pretrained", of, kind, [before, before, before]))
    mimmu = {
        ("tulip", UNRELATED): [0.0, 0.2, 0.8], ("tulip", LORA): [0.0, 0.0, 0.0],
        ("poodle", UNRELATED): [0.0, 0.4, 0.8], ("poodle", LORA): [0.0, 0.2, 0.4],
        ("tulip", "5 pictures"): [0.0, 0.5, 1.0], ("tulip", "20 pictures"): [0.0, 1.0, 1.0],
        ("poodle", "5 pictures"): [0.0, 0.1, 0.2], ("poodle", "20 pictures"): [0.0, 0.4, 0.8],
    }  # fmt: skip
    out += [finetuned("mimmu", of, kind, points) for (of, kind), points in mimmu.items()]
    return out + [finetuned("oracle", "tulip", kind, [0.0, 0.2, 0.6]) for kind in KINDS]


@pytest.fixture(scope="module")
def board() -> pd.DataFrame:
    return board_tables.board_frame(results(), ("ua", "nra", "ora"), "full")


def test_the_frame_has_a_row_a_point_and_its_means_one_a_method_kind_and_number_of_steps() -> None:
    found = relearning.frame(results())
    assert found.columns.tolist() == [
        "method", "task", "of", "probe", "data", "how", "pictures", "seed", "steps", "accuracy", "n"
    ]  # fmt: skip
    own = found[(found["method"] == "mimmu") & (found["task"] == f"tulip: {UNRELATED}")]
    assert own["steps"].tolist() == [0, 100, 200]
    assert own["accuracy"].tolist() == pytest.approx([0, 20, 80])
    assert own[["of", "probe", "data", "how", "pictures"]].drop_duplicates().values.tolist() == [
        ["tulip", UNRELATED, "unrelated", "full", 0]
    ]  # fmt: skip
    means = relearning.means(found)
    assert means.columns.tolist()[-4:] == ["steps", "accuracy", "accuracy_lo", "accuracy_hi"]
    own = means[(means["method"] == "mimmu") & (means["probe"] == UNRELATED)]
    assert own["accuracy"].tolist() == pytest.approx([0, 30, 80])
    assert own["accuracy_lo"].iloc[1] < 30 < own["accuracy_hi"].iloc[1]
    assert relearning.means(relearning.frame([])).empty


def test_harmless_training_brings_back_what_the_area_says(board: pd.DataFrame) -> None:
    own = board.set_index("method").loc["mimmu"]
    areas = {"tulip": (30 + 0) / 2, "poodle": (40 + 20) / 2}  # (0 + 2 * middle + end) / 4, a mean of two kinds
    assert own["back_auc"] == pytest.approx((areas["tulip"] + areas["poodle"]) / 2)
    assert own["back_auc_lo"] < own["back_auc"] < own["back_auc_hi"]
    assert own["back_auc_n"] == 4 * 3 * 8
    assert (own["back_from"], own["back_from_n"]) == (0, 4 * 8)
    # means are 0, 20 and 50; half of the untouched models' mean of 90 is 45
    assert own["back_half"] == pytest.approx(100 + 100 * 25 / 30)
    assert own["back_never"] == pytest.approx((50 + 0) / 2)  # the tulip with adapters; a poodle is half there at 40 %
    assert board.set_index("method").loc["pretrained", "back_half"] == 0


def test_relearning_is_counted_by_pictures_and_against_the_oracle(board: pd.DataFrame) -> None:
    own = board.set_index("method").loc["mimmu"]
    assert own["relearn_auc_5"] == pytest.approx((50 + 10) / 2)
    assert own["relearn_auc_20"] == pytest.approx((75 + 40) / 2)
    assert own["relearn_auc"] == pytest.approx(((50 + 75) / 2 + (10 + 40) / 2) / 2)
    assert own["relearn_half_20"] == pytest.approx(100 * 45 / 70)
    assert own["relearn_never_5"] == pytest.approx(50)
    assert own["relearn_never_20"] == 0
    assert own["relearn_excess"] == pytest.approx((50 + 75) / 2 - 25)  # of the tulip, which the oracle has
    assert pd.isna(own["relearn_excess_lo"])  # one concept, one seed
    assert own["relearn_excess_n"] == 2 * 3 * 8
    assert board.set_index("method").loc["oracle", "relearn_excess"] == 0
    assert board.set_index("method").loc["oracle", "cells"] == 4


def test_a_mean_that_never_gets_there_is_blank_and_nothing_is_dropped(board: pd.DataFrame) -> None:
    oracle = board.set_index("method").loc["oracle"]
    assert oracle["back_half"] == pytest.approx(100 + 100 * 30 / 40)
    low = [finetuned("pretrained", "tulip", UNRELATED, [1.0, 1.0]), finetuned("a", "tulip", UNRELATED, [0.0, 0.4])]
    own = board_tables.board_frame(low, ("ua",), "full").set_index("method").loc["a"]
    assert math.isnan(own["back_half"])
    assert (own["back_never"], own["back_auc"]) == (100, pytest.approx(20))


def test_without_the_untouched_model_there_is_no_half_of_it() -> None:
    own = board_tables.board_frame([finetuned("a", "tulip", "5 pictures", [0.0, 0.4])], ("ua",), "full").iloc[0]
    assert own[["relearn_half", "relearn_never_5"]].isna().all()
    assert own["relearn_auc"] == pytest.approx(20)
    assert not [c for c in own.index if "excess" in c or c.startswith("back")]


def test_what_the_untouched_model_never_shows_has_no_half() -> None:
    rows = [finetuned("pretrained", of, UNRELATED, [p, p]) for of, p in (("a", 0.0), ("b", 1.0))]
    rows += [finetuned("m", of, UNRELATED, [0.0, p]) for of, p in (("a", 0.0), ("b", 1.0))]
    own = board_tables.board_frame(rows, ("ua",), "full").set_index("method").loc["m"]
    assert (own["back_half"], own["back_half_n"], own["back_never"]) == (pytest.approx(100), 16, 0)
    assert own["back_auc"] == pytest.approx(25)


def test_points_that_lack_leave_no_figure() -> None:
    rows = [finetuned("a", of, UNRELATED, [0.0, 0.4]) for of in ("tulip", "poodle")]
    rows[1] = dataclasses.replace(rows[1], curve=())
    assert board_tables.board_frame(rows, ("ua",), "full")["back_auc"].isna().all()


def test_a_method_with_cells_missing_has_no_mean_and_the_oracle_has_its_own() -> None:
    found = relearning.frame(results())
    assert set(relearning.means(found)["method"]) == {"pretrained", "mimmu"}
    assert set(relearning.means(found, {"oracle"})["method"]) == {"pretrained", "mimmu", "oracle"}
    short = found[~((found["method"] == "mimmu") & (found["task"] == f"poodle: {UNRELATED}"))]
    own = relearning.means(short)
    assert set(own.loc[own["method"] == "mimmu", "probe"]) == {*KINDS} - {UNRELATED}


def test_fine_tunings_are_no_curve_and_have_a_file_of_their_own(board: pd.DataFrame, tmp_path: Path) -> None:
    rows = results()[-4:]
    tables = board_tables.write(rows, NAMES, tmp_path, "r", "full", {})
    assert tables.curve.empty
    assert not [c for c in map(str, board) if "@" in c]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "r-cells.csv", "r-concepts.csv", "r-recovery.csv", "r.csv", "r.json"
    ]  # fmt: skip
    assert tables.cells["of"].tolist() == ["tulip"] * 4
    assert tables.cells["probe"].tolist() == list(KINDS)


def test_there_is_no_rank_and_general_figures_give_way(board: pd.DataFrame) -> None:
    assert board["rank"].isna().all()
    assert terminal.ranked(board) == ""
    assert "rank" not in terminal.caption(board, [], [])
    names = [one.name for one in terminal.columns_of(board, NAMES[:3])]
    assert names == ["back_from", "back_auc", "back_half", "relearn_auc", "relearn_half", "relearn_excess", *NAMES[:3]]


ACCURACIES = st.lists(st.floats(0, 100), min_size=2, max_size=6)


@settings(max_examples=30)
@given(ACCURACIES)
def test_the_mean_height_lies_between_the_lowest_and_the_highest_point(points: list[float]) -> None:
    found = relearning.mean_height(np.linspace(0, 200, len(points)), np.array(points))
    assert min(points) - 1e-9 <= found <= max(points) + 1e-9


def test_the_area_of_a_line_is_half_way_and_of_uneven_steps_by_their_length() -> None:
    assert relearning.mean_height(np.array([0.0, 50.0, 200.0]), np.array([0.0, 25.0, 100.0])) == pytest.approx(50)
    assert relearning.mean_height(np.array([0.0, 50.0, 200.0]), np.array([0.0, 100.0, 100.0])) == pytest.approx(87.5)
    with pytest.raises(ValueError, match="before it and one after"):
        relearning.mean_height(np.array([0.0]), np.array([10.0]))


@settings(max_examples=20, deadline=None)
@given(ACCURACIES, st.floats(1, 100))
def test_half_is_reached_between_the_first_point_above_it_and_the_one_before(points: list[float], full: float) -> None:
    frame = relearning.frame([finetuned("a", "tulip", UNRELATED, [p / 100 for p in points])])
    found = relearning.half_way(frame, {("tulip", 0): [full]}).mean
    steps, accuracy = relearning.lines(frame)["tulip", 0][0]
    above = np.flatnonzero(accuracy >= full / 2)
    never = relearning.never(frame, {("tulip", 0): [full]})["tulip", 0]
    if not len(above):
        assert math.isnan(found)
        assert never == [100]
        return
    assert never == [0]
    assert steps[max(above[0] - 1, 0)] - 1e-9 <= found <= steps[above[0]] + 1e-9
