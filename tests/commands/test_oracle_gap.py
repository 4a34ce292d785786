"""How far methods are from an oracle, by a table of cells."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requested import NAMES, result
from support.results import failed, with_score

from bench.board import tables
from bench.commands import main, oracle_gap
from bench.core.results import CellResult
from bench.core.score import Score
from methods import ORACLE

TASKS, SEEDS = ("corgi", "rose", "toucan"), (0, 1)
SOME = {"corgi": 0.9, "rose": 0.5, "toucan": 1.0}


def results(uas: dict[str, float]) -> list[CellResult]:
    """Of each task two seeds of a method, whose UA is in shares, and where there is one of the oracle, whose UA is 1.

    Of a further task, which has no oracle, UA is 0.
    """
    every = [(task, seed) for task in (*TASKS, "daisy") for seed in SEEDS]
    out = [result("mimmu", task, [task], seed, ua=uas.get(task, 0.0), drift=0.01) for task, seed in every]
    return out + [result(ORACLE, task, [task], seed, drift=0.03) for task, seed in every if task in TASKS]


def cells(made: list[CellResult]) -> pd.DataFrame:
    return tables.cells_frame(made, NAMES)


def mimmu(made: list[CellResult], name: str) -> oracle_gap.Interval:
    found = oracle_gap.paired(cells(made))
    return oracle_gap.gap(found["mimmu"], found[ORACLE], name)


def test_gap_uses_only_tasks_of_oracle() -> None:
    assert {name: set(rows["task"]) for name, rows in oracle_gap.paired(cells(results(SOME))).items()} == {
        "mimmu": {*TASKS}, ORACLE: {*TASKS}
    }  # fmt: skip
    away = mimmu(results(SOME), "ua")
    assert away.mean == pytest.approx(80 - 100)
    assert away.low < away.mean < away.high < 60
    assert mimmu(results(SOME), "drift").mean == pytest.approx(-0.02)


def test_gap_is_paired_by_task() -> None:
    made = results(SOME)
    for i, one in enumerate(made):  # both go up and down together: no spread is left
        if one.method == ORACLE:
            made[i] = with_score(one, "ua", Score(SOME[one.task] - 0.1, 10))
    away = mimmu(made, "ua")
    assert (away.mean, away.low, away.high) == pytest.approx((10, 10, 10))


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_gap_stays_within_range_of_metric(uas: list[float]) -> None:
    away = mimmu(results(dict(zip(TASKS, uas, strict=True))), "ua")
    assert away.mean == pytest.approx(100 * sum(uas) / 3 - 100)
    assert -100 <= away.low <= away.mean + 1e-9
    assert away.mean - 1e-9 <= away.high <= 100


def test_table_starts_with_oracle_and_marks_differences() -> None:
    made = results(SOME) + [result("salun", task, [task], seed) for task in TASKS for seed in SEEDS]
    heads, *rows = oracle_gap.table(cells(made), ["ua", "drift"])
    assert heads == ["method", "UA %", "DRIFT"]
    assert [row[0] for row in rows] == ["oracle", "mimmu", "salun"]
    assert rows[0][1] == "100.0 (100.0..100.0)"
    assert rows[1][1].startswith("-20.0 (-")
    assert rows[1][2] == "**-0.020 (-0.020..-0.020)**"
    assert rows[2][1] == "+0.0 (+0.0..+0.0)"
    made[-1] = failed(made[-1])
    assert oracle_gap.table(cells(made), ["ua"])[-1] == ["salun", ""]
    alone = [one for one in made if one.task == "rose" and one.seed == 0]
    assert oracle_gap.table(cells(alone), ["ua"])[2] == ["mimmu", "-50.0"]  # one cluster has no interval


def test_task_with_unfinished_oracle_is_left_out() -> None:
    made = results(SOME)
    (last,) = (i for i, one in enumerate(made) if (one.method, one.task, one.seed) == (ORACLE, "rose", 1))
    made[last] = failed(made[last])
    assert mimmu(made, "ua").mean == pytest.approx(95 - 100)


@pytest.mark.parametrize("method", ["mimmu", ORACLE])
def test_missing_value_gives_blank(method: str) -> None:
    made = results(SOME)
    first = next(i for i, one in enumerate(made) if one.method == method)
    made[first] = with_score(made[first], "drift", None)
    _, oracle, row = oracle_gap.table(cells(made), ["ua", "drift"])
    assert (oracle[2] == "") == (method == ORACLE)
    assert row[2] == ""
    assert "" not in (oracle[1], row[1])


def test_file_without_comparable_cells_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = [one for one in results(SOME) if one.method != ORACLE]
    none = [failed(one) if one.method == ORACLE else one for one in results(SOME)]
    with pytest.raises(ValueError, match="the oracle has no task with all cells finished"):
        oracle_gap.table(cells(none), ["ua"])
    (tmp_path / "board.csv").write_text("method,ua\nmimmu,100\n")
    (tmp_path / "a-cells.csv").write_text(cells(plain).to_csv(index=False))
    (tmp_path / "b-cells.csv").write_text(cells(results(SOME)).to_csv(index=False))
    for words, said in (
        (["none-cells.csv"], "no such file; a run writes BOARD-cells.csv"),
        ([str(tmp_path)], "a folder; a run writes BOARD-cells.csv"),
        ([str(tmp_path / "board.csv")], "has no column 'task', so it is not the -cells.csv of a board"),
        ([str(tmp_path / "a-cells.csv")], "a-cells.csv: has no row of the oracle; docs/pocket.md lists"),
        ([str(tmp_path / "b-cells.csv"), "--metrics", "fod"], "has no metric 'fod': "),
    ):
        assert main.main(["gap", *words]) == 2
        assert said in " ".join(capsys.readouterr().out.split())
    assert main.main(["gap", str(tmp_path / "b-cells.csv"), "--metrics", "ua", "d*"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "| method | UA % | DRIFT |"
    assert main.main(["gap", str(tmp_path / "b-cells.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
