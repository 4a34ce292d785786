import dataclasses

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requested import NAMES, sequence
from support.results import failed, with_score

from bench.board import sequences, tables
from bench.core.results import CellResult
from bench.core.score import Score
from bench.report import terminal

A = [{"a": 0.9}, {"a": 0.6, "b": 1.0}, {"a": 0.8, "b": 0.8, "c": 1.0}]  # a falls by 30 pp at once, b by 20 at last


@pytest.fixture(scope="module")
def results() -> list[CellResult]:
    kept = {"nra": (1.0, 0.8, 0.6), "ora": (1.0, 1.0, 0.9), "drift": (0.01, 0.02, 0.06), "seconds": (5.0, 7.0, 9.0)}
    other = [{"d": 1.0}, {"d": 1.0, "e": 0.5}, {"d": 1.0, "e": 0.7, "f": 1.0}]  # nothing returns
    base = [dict.fromkeys(row, 0.0) for row in A]
    return [
        *sequence("pretrained", base), *sequence("pretrained", [dict.fromkeys(r, 0.0) for r in other], "def"),
        *sequence("mimmu", A, **kept), *sequence("mimmu", other, "def", **kept),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(results: list[CellResult]) -> pd.DataFrame:
    return tables.board_frame(results, NAMES, "full")


def board(results: list[CellResult]) -> pd.DataFrame:
    return tables.board_frame(results, ("ua", "nra", "ora"), "full").set_index("method")


def test_the_matrix_has_what_every_request_left_of_every_concept_forgotten_by_then(results: list[CellResult]) -> None:
    found = sequences.matrix(results)
    assert tuple(found.columns) == sequences.MATRIX
    own = found[(found["method"] == "mimmu") & (found["chain"] == "abc")]
    assert own[["step", "request", "concept", "since"]].values.tolist() == [
        [1, "a", "a", 1], [2, "b", "a", 1], [2, "b", "b", 2], [3, "c", "a", 1], [3, "c", "b", 2], [3, "c", "c", 3]
    ]  # fmt: skip
    assert own["ua"].tolist() == pytest.approx([90, 60, 100, 80, 80, 100])
    assert own["n"].tolist() == [10] * 6


def test_along_the_sequence_figures_are_means_over_chains_and_seconds_add_up(results: list[CellResult]) -> None:
    found = sequences.along(tables.cells_frame(results, NAMES))
    own = found[found["method"] == "mimmu"]
    assert own["step"].tolist() == [1, 2, 3]
    assert own["request"].tolist() == ["a / d", "b / e", "c / f"]
    assert own["ua"].tolist() == pytest.approx([95, (80 + 75) / 2, (260 / 3 + 90) / 2])
    assert own["nra"].tolist() == pytest.approx([100, 80, 60])
    assert own["seconds"].tolist() == pytest.approx([5, 12, 21])
    assert own["h"].iloc[0] == pytest.approx(3 / (1 / 95 + 2 / 100))
    assert (own["ua_lo"] <= own["ua"]).all()


def test_the_board_says_what_is_left_after_the_last_request(whole: pd.DataFrame) -> None:
    own = whole.set_index("method").loc["mimmu"]
    ua = (260 / 3 + 90) / 2
    assert (own["final_ua"], own["final_nra"], own["final_ora"]) == pytest.approx((ua, 60, 90))
    assert own["final_h"] == pytest.approx(3 / (1 / ua + 1 / 60 + 1 / 90))
    assert own["final_kept"] == pytest.approx((10 * 60 + 30 * 90) / 40)  # over images, not over concepts
    assert own["final_kept_n"] == 80
    assert own["worst_return"] == pytest.approx((30 + 0) / 2)
    assert 0 == own["worst_return_lo"] < own["worst_return"] < own["worst_return_hi"]
    assert own["worst_return_n"] == 120
    assert own["drift_per_request"] == pytest.approx(0.02)
    assert own["seconds_all"] == pytest.approx(21)
    assert own["ua"] == pytest.approx((90 + 80 + 260 / 3 + 100 + 75 + 90) / 6)  # of all states on the way
    assert (own["ua_n"], own["final_ua_n"]) == (60, 20)


def test_cells_and_concepts_say_where_in_the_sequence_they_stand(results: list[CellResult]) -> None:
    cells = tables.cells_frame(results, NAMES)
    own = cells[cells["method"] == "mimmu"]
    assert own["step"].tolist() == [1, 2, 3] * 2
    assert own["request"].tolist() == ["a", "b", "c", "d", "e", "f"]
    assert own["chain"].tolist() == ["abc"] * 3 + ["def"] * 3
    concepts = tables.concepts_frame(results, NAMES)
    last = concepts[(concepts["method"] == "mimmu") & (concepts["task"] == "3 c of abc")]
    assert last["since"].tolist()[:3] == [1, 2, 3]
    assert last["since"].isna().tolist()[3:] == [True, True]
    assert "since" not in tables.concepts_frame([dataclasses.replace(r, step=None) for r in results], NAMES)


def test_a_chain_is_one_cluster_and_of_a_single_one_seeds_are(results: list[CellResult]) -> None:
    alone = [r for r in results if r.step.sequence == "abc"]
    found = board(alone).loc["mimmu"]
    assert found[["final_ua_lo", "ua_lo", "worst_return_lo"]].isna().all()  # not three tasks: one chain, one seed
    again = [dataclasses.replace(with_score(r, "ua", Score(0.5, 10)), seed=1) for r in alone]
    both = board([*alone, *again]).loc["mimmu"]
    assert both["ua_lo"] < both["ua"] < both["ua_hi"]


def test_ranks_go_by_what_is_left_at_the_end() -> None:
    good = [{"a": 1.0}, {"a": 1.0, "b": 1.0}]
    rows = []
    for chain_name in ("x", "y", "z"):
        rows += sequence("late", good, chain_name, nra=(0.2, 1.0))
        rows += sequence("early", good, chain_name, nra=(1.0, 0.6))
    found = board(rows)
    assert found.loc["late", "h"] < found.loc["early", "h"]
    assert found["rank"].to_dict() == {"late": 1, "early": 2}


def test_what_lacks_a_request_is_not_ranked_and_has_no_figure_of_whole_sequences(results: list[CellResult]) -> None:
    less = [dataclasses.replace(r, method="oracle") for r in results if r.method == "mimmu" and r.step.number == 1]
    found = board([*results, *less])
    assert found.loc["oracle", ["rank", "final_ua", "worst_return", "final_kept", "seconds_all"]].isna().all()
    assert found.loc["oracle", "cells"] == 2
    assert found.loc["oracle", "ua"] == pytest.approx(95)
    assert found.loc["mimmu", "rank"] == 1


def test_an_oracle_is_a_point_without_seconds_where_one_concept_is_forgotten(results: list[CellResult]) -> None:
    known = sequence("oracle", A)[:1]
    found = sequences.along(tables.cells_frame([*results, *known], NAMES)).set_index(["method", "step"])
    assert found.loc[("oracle", 1), "ua"] == pytest.approx(90)
    assert pd.isna(found.loc[("oracle", 1), "seconds"])
    assert found.loc[("mimmu", 2), "seconds"] == pytest.approx(12)
    assert pd.isna(board([*results, *known]).loc["oracle", "seconds_all"])


def test_a_failed_request_ends_the_line_and_empties_the_row(results: list[CellResult]) -> None:
    broken = [failed(r) if (r.method, r.task) == ("mimmu", "2 e of def") else r for r in results]
    assert sequences.along(tables.cells_frame(broken, NAMES)).groupby("method").size()["mimmu"] == 1
    found = board(broken).loc["mimmu"]
    assert found[["final_ua", "worst_return", "final_kept", "seconds_all", "rank"]].isna().all()
    assert found["status"] == "1 failed of 6"


def test_the_tables_show_the_end_and_general_figures_give_way(whole: pd.DataFrame) -> None:
    heads = ["final_h", "final_ua", "final_kept", "worst_return", "drift_per_request"]
    assert [one.name for one in terminal.columns_of(whole, NAMES)] == [*heads, *NAMES]
    assert terminal.ranked(whole) == "FINAL H"
    assert "rank by FINAL H" in terminal.caption(whole, [], [])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=3, max_size=3))
def test_the_worst_return_is_no_less_than_nothing_nor_than_any_fall(table: list[list[float]]) -> None:
    rows = [{str(c): table[step][c] for c in range(step + 1)} for step in range(3)]
    (found,) = sequences.returns(sequences.matrix(sequence("a", rows)))[("abc", 0)]
    falls = [table[c][c] - table[step][c] for c in range(3) for step in range(c, 3)]
    assert found == pytest.approx(100 * max(falls))
    assert found >= 0
