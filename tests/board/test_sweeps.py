import json

import pytest
from support.requested import NAMES, result, variant
from support.results import failed

from bench.board import sweeps, tables
from bench.core.results import CellResult

PLAIN = {"t_max": 1000, "lr": 1e-5, "weighting": "uniform", "ema": None, "clip": True}


def one_at_a_time() -> list[CellResult]:
    """Settings changed one by one from the plain ones, on two tasks; and a method that is not swept."""
    out = []
    for values, ua in (({}, 0.9), ({"t_max": 300}, 0.5), ({"t_max": 600}, 0.7), ({"weighting": "snr"}, 1.0)):
        out += [variant(task, PLAIN | values, values, ua=ua - i * 0.1) for i, task in enumerate("xy")]
    return out + [result("salun", task, [task]) for task in "xy"]


def test_every_setting_has_its_values_and_the_plain_one_among_them() -> None:
    found = sweeps.frame(tables.cells_frame(one_at_a_time(), NAMES))
    assert found.columns.tolist()[:5] == ["method", "field", "value", "at", "others"]
    assert set(found["method"]) == {"mimmu"}
    t_max = found[found["field"] == "t_max"]
    assert t_max["value"].tolist() == ["300", "600", "1000"]
    assert t_max["at"].tolist() == [300, 600, 1000]
    assert t_max["plain"].tolist() == [False, False, True]
    assert t_max["ua"].tolist() == pytest.approx([45, 65, 85])
    assert (t_max["ua_lo"] < t_max["ua"]).all()
    assert t_max["h"].iloc[0] == pytest.approx(3 / (1 / 45 + 2 / 100))
    weighting = found[found["field"] == "weighting"]
    assert weighting[["value", "ua"]].values.tolist() == [["snr", pytest.approx(95)], ["uniform", pytest.approx(85)]]
    assert weighting["at"].isna().all()
    assert (found["others"] == "").all()


def test_in_a_grid_the_other_settings_are_told_apart() -> None:
    grid = [{"t_max": t, "lr": lr} for t in (300, 600) for lr in (1e-5, 1e-4)]
    rows = [variant("x", PLAIN | v, v, ua=v["t_max"] / 1000) for v in grid]
    found = sweeps.frame(tables.cells_frame(rows, NAMES))
    t_max = found[found["field"] == "t_max"]
    assert t_max[["value", "others"]].values.tolist() == [
        ["300", "lr=0.0001"], ["600", "lr=0.0001"], ["300", "lr=1e-05"], ["600", "lr=1e-05"]
    ]  # fmt: skip
    assert t_max["ua"].tolist() == pytest.approx([30, 60, 30, 60])
    assert found[found["field"] == "lr"]["at"].tolist() == [1e-5, 1e-4] * 2


def test_an_unfinished_variant_has_no_row() -> None:
    rows = one_at_a_time()
    found = sweeps.frame(tables.cells_frame([failed(rows[2]), *rows[:2], *rows[3:]], NAMES))
    assert found[found["field"] == "t_max"]["value"].tolist() == ["600", "1000"]


def test_cells_say_what_was_set_and_without_a_sweep_there_is_nothing() -> None:
    cells = tables.cells_frame(one_at_a_time(), NAMES)
    assert [json.loads(text) for text in cells["variant"][::2]] == [
        {}, {"t_max": "300"}, {"t_max": "600"}, {"weighting": "snr"}, {}
    ]  # fmt: skip
    assert cells["variant_of"].tolist() == ["mimmu"] * 8 + ["salun"] * 2
    alone = tables.cells_frame(one_at_a_time()[-2:], NAMES)
    assert "variant" not in alone
    assert sweeps.frame(alone).empty


def test_rows_of_the_board_are_variants_ranked_like_methods() -> None:
    board = tables.board_frame(one_at_a_time(), NAMES, "full")
    assert board["method"].tolist() == ["mimmu", "mimmu t_max=300", "mimmu t_max=600", "mimmu weighting=snr", "salun"]
    assert board["rank"].tolist()[-1] == 1


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [(300, "300", 300), (1e-5, "1e-05", 1e-5), ("snr", "snr", None), (True, "True", None), (None, "None", None)],
)
def test_settings_are_shown_as_the_command_line_has_them(value: object, text: str, number: float | None) -> None:
    assert sweeps.text(value) == text
    assert sweeps.number(value) == number
