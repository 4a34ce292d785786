import pandas as pd
import pytest
from support.requested import NAMES, result
from support.results import failed

from bench.board import several, tables
from bench.core.results import CellResult, SequenceStep
from bench.plan.column_names import ENDS
from bench.report import terminal

UAS = {2: (1.0, 0.8), 4: (0.5, 0.7)}


@pytest.fixture(scope="module")
def results() -> list[CellResult]:
    """Two tasks of two concepts, two of four; NRA of the method falls with their number, ORA stays."""
    out = []
    for k, uas in UAS.items():
        for i, ua in enumerate(uas):
            forget = [f"{k}{i}{j}" for j in range(k)]
            for method, value, kept in (("pretrained", 0.0, 1.0), ("mimmu", ua, 1.2 - 0.1 * k)):
                multi = "joint" if method == "pretrained" else "alternate"
                out.append(
                    result(method, f"{k} of {i}", forget, ua=value, nra=min(kept, 1.0), band=f"k={k}", multi=multi)
                )
    return out


@pytest.fixture(scope="module")
def whole(results: list[CellResult]) -> pd.DataFrame:
    return tables.board_frame(results, NAMES, "full")


def test_the_frame_has_a_row_a_method_and_number(results: list[CellResult]) -> None:
    found = several.frame(tables.cells_frame(results, NAMES))
    assert found.columns.tolist() == ["method", "k", *(n + e for n in ("h", "ua", "nra", "twin", "ora", "drift")
                                                       for e in ("", "_lo", "_hi"))]  # fmt: skip
    assert found[["method", "k"]].values.tolist() == [["pretrained", 2], ["pretrained", 4], ["mimmu", 2], ["mimmu", 4]]
    own = found[found["method"] == "mimmu"].set_index("k")
    assert own["ua"].tolist() == pytest.approx([90, 60])
    assert own["nra"].tolist() == pytest.approx([100, 80])
    assert own["h"].tolist() == pytest.approx([3 / (1 / 90 + 2 / 100), 3 / (1 / 60 + 1 / 80 + 1 / 100)])
    assert (own["ua_lo"] < own["ua"]).all()
    assert own["twin"].isna().all()


def test_the_board_has_columns_for_each_number_found(whole: pd.DataFrame) -> None:
    board = whole.set_index("method")
    own = board.loc["mimmu"]
    assert (own["ua_k2"], own["nra_k2"], own["ora_k2"]) == pytest.approx((90, 100, 100))
    assert (own["ua_k4"], own["nra_k4"], own["ora_k4"]) == pytest.approx((60, 80, 100))
    assert own["ua_k2_lo"] < 90 < own["ua_k2_hi"] <= 100
    assert (own["ua_k2_n"], own["h_k4_n"]) == (20, 60)
    assert own["ua"] == pytest.approx(75)  # of all tasks
    assert board["way"].tolist() == ["joint", "alternate"]
    assert [c for c in map(str, board) if "_k" in c and not c.endswith(ENDS)] == [
        "ua_k2", "nra_k2", "ora_k2", "h_k2", "ua_k4", "nra_k4", "ora_k4", "h_k4"
    ]  # fmt: skip


def test_an_unfinished_cell_leaves_no_figure_of_its_number(results: list[CellResult], whole: pd.DataFrame) -> None:
    broken = [*results[:-1], failed(results[-1])]
    found = several.frame(tables.cells_frame(broken, NAMES))
    assert found[found["method"] == "mimmu"]["k"].tolist() == [2]
    own = tables.board_frame(broken, NAMES, "full").set_index("method").loc["mimmu"]
    assert own[["ua_k2", "h_k4", "ua_k4_n"]].isna().all()
    first = [failed(results[0]), *results[1:]]  # whichever row lacks figures, the columns stay where they are
    assert tables.board_frame(first, NAMES, "full").columns.tolist() == whole.columns.tolist()


def test_boards_of_single_concepts_have_none_of_it() -> None:
    cells = tables.cells_frame([result("mimmu", "a", ["a"])], NAMES)
    assert not {"k", "way"} & set(cells)
    assert several.frame(cells).empty
    board = tables.board_frame([result("mimmu", "a", ["a"])], NAMES, "full")
    assert "way" not in board
    assert not [c for c in map(str, board) if "_k" in c]


def test_requests_of_a_sequence_are_not_at_once() -> None:
    step = SequenceStep("a > b", 2, 2, ("b",))
    cells = tables.cells_frame([result("mimmu", "2 b", ["a", "b"], step=step)], NAMES)
    assert cells["k"].tolist() == [2]
    assert several.frame(cells).empty


def test_the_tables_show_h_by_number_and_the_way(whole: pd.DataFrame) -> None:
    assert [one.name for one in terminal.columns_of(whole, NAMES)] == ["h", "h_k2", "h_k4", *NAMES]  # chosen by name
    assert terminal.words(whole) == ["way", "compensation", "status"]
    assert pd.isna(whole["rank"].iloc[0])
    assert terminal.ranked(whole) == "H"
