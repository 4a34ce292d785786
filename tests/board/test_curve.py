import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.results import cell_result

from bench.board import curve, tables
from bench.core.results import CellResult, CurvePoint
from bench.core.score import Score

NAMES = ("ua", "nra", "twin", "ora")


def result(task: str, *points: tuple[float, float], seed: int = 0, method: str = "a", **fields: Any) -> CellResult:
    """A cell whose curve has these UA and retention, in shares."""
    steps = len(points) - 1
    along = tuple(
        CurvePoint(i / steps, {"ua": Score(u, 6), "nra": Score(r, 42), "twin": None}) for i, (u, r) in enumerate(points)
    )
    return cell_result(method, task, seed=seed, **{"curve": along, **fields})


def test_points_are_rows_and_cells_without_curves_have_none() -> None:
    frame = curve.frame(
        [result("x", (0, 1), (0.5, 0.8), (1, 0.6)), cell_result("b", "x"), cell_result("c", "x", curve=())], NAMES
    )
    assert frame.columns.tolist() == [
        "method",
        "task",
        "band",
        "seed",
        "part",
        "ua",
        "ua_n",
        "nra",
        "nra_n",
        "twin",
        "twin_n",
    ]
    assert frame["part"].tolist() == [0, 0.5, 1]
    assert frame["ua"].tolist() == [0, 50, 100]
    assert frame["nra_n"].tolist() == [42, 42, 42]
    assert frame["twin"].isna().all()


def test_retention_is_read_where_forgetting_first_reaches_90_percent() -> None:
    frame = curve.frame([result("x", (0, 1), (0.8, 0.9), (1.0, 0.5), (0.7, 0.2))], NAMES)
    found, count = curve.at_matched(frame, "nra")
    assert found.mean == pytest.approx(70)  # half way between the second and the third checkpoint
    assert math.isnan(found.low)
    assert count == 4 * 42


def test_it_is_blank_where_forgetting_never_gets_there() -> None:
    assert math.isnan(curve.at_matched(curve.frame([result("x", (0, 1), (0.89, 0.5))], NAMES), "nra")[0].mean)
    assert math.isnan(curve.at_matched(curve.frame([], NAMES), "nra")[0].mean)
    assert curve.at_matched(curve.frame([result("x", (0, 1), (1, 1))], NAMES), "twin")[1] == 0  # not measured


def test_the_methods_curve_is_the_mean_over_tasks_and_its_interval_over_them() -> None:
    quick, slow = ((0, 1), (1.0, 0.9), (1.0, 0.8)), ((0, 1), (0.8, 0.7), (1.0, 0.6))
    tasks = [result(str(i), *(quick if i % 2 else slow)) for i in range(8)]
    found, _ = curve.at_matched(curve.frame(tasks, NAMES), "nra")
    assert found.mean == pytest.approx(80)  # UA 90 at the second checkpoint, where NRA is 80
    assert found.low < 80 < found.high
    assert found.low > 60


def test_nine_tasks_of_which_many_fall_short_give_no_interval() -> None:
    tasks = [result(str(i), (0, 1), (1.0 if i < 7 else 0.6, 0.8)) for i in range(9)]  # mean UA 91
    found, _ = curve.at_matched(curve.frame(tasks, NAMES), "nra")
    assert found.mean > 80
    assert math.isnan(found.low)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=6))
def test_what_is_kept_at_90_percent_lies_between_neighbouring_checkpoints(points: list[tuple[float, float]]) -> None:
    ua, kept = np.array(points).T
    found = float(curve.reaching(np.concatenate([ua, kept])))
    if not (ua >= 90).any():
        assert math.isnan(found)
        return
    i = int((ua >= 90).argmax())
    near = kept[max(i - 1, 0) : i + 1]
    assert near.min() - 1e-9 <= found <= near.max() + 1e-9


def test_means_have_a_row_a_method_and_part() -> None:
    cells = [result(t, (0, 1), (u, 0.8), method=m) for m in "ab" for t, u in (("x", 1.0), ("y", 0.5))]
    means = curve.means(curve.frame(cells, NAMES))
    assert means[["method", "part"]].values.tolist() == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    assert means["ua"].tolist() == [0, 75, 0, 75]
    assert (means["ua_lo"] <= means["ua"]).all()
    assert means["twin"].isna().all()
    assert curve.means(pd.DataFrame(columns=[*curve.HEAD, "ua", "ua_n"])).empty


def test_a_row_of_the_board_has_it_only_where_curves_were_asked_for() -> None:
    scores = {"ua": Score(1.0, 10), "nra": Score(0.9, 70)}
    with_curve = result("x", (0, 1), (1, 0.5), scores=scores)
    board = tables.board_frame([with_curve], ("ua", "nra"), "full")
    assert board["nra@ua90"].tolist() == pytest.approx([55])
    without = dataclasses.replace(with_curve, curve=None)
    assert not [c for c in tables.board_frame([without], ("ua", "nra"), "full") if "@" in str(c)]
