"""How far methods are from an oracle, by a table of cells."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from requested import NAMES, Result, failed, result

from bench import leaderboard, oracle_gap
from methods import ORACLE

TASKS, SEEDS = ("corgi", "rose", "toucan"), (0, 1)


def results(uas: dict[str, float], oracles: tuple[str, ...] = TASKS) -> list[Result]:
    """Of each task two seeds of a method, whose UA is in shares, and where there is one of the oracle, whose UA is 1.

    Of a further task, which has no oracle, UA is 0.
    """
    every = [(task, seed) for task in (*TASKS, "daisy") for seed in SEEDS]
    out = [result("mimmu", task, [task], seed, ua=uas.get(task, 0.0), drift=0.01) for task, seed in every]
    return out + [result(ORACLE, task, [task], seed, drift=0.03) for task, seed in every if task in oracles]


def cells(*args: object) -> pd.DataFrame:
    return leaderboard.cells_frame(results(*args), NAMES)  # type: ignore[arg-type]


def test_only_the_tasks_of_the_oracle_count_and_each_against_its_own() -> None:
    found = oracle_gap.paired(cells({"corgi": 0.9, "rose": 0.5, "toucan": 1.0}))
    assert set(found["task"]) == {*TASKS}
    away = oracle_gap.gap(found, "mimmu", "ua")
    assert away.mean == pytest.approx(80 - 100)
    assert away.low < away.mean < away.high < 60
    assert oracle_gap.gap(found, "mimmu", "drift").mean == pytest.approx(-0.02)
    assert oracle_gap.gap(found, ORACLE, "ua").mean == 0


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_a_gap_is_no_wider_than_the_metric(uas: list[float]) -> None:
    away = oracle_gap.gap(oracle_gap.paired(cells(dict(zip(TASKS, uas, strict=True)))), "mimmu", "ua")
    assert away.mean == pytest.approx(100 * sum(uas) / 3 - 100)
    assert -100 <= away.low <= away.mean + 1e-9
    assert away.mean - 1e-9 <= away.high <= 100


def test_the_table_begins_with_the_oracle_and_leaves_out_what_is_unfinished() -> None:
    made = results({"corgi": 0.9, "rose": 0.5, "toucan": 1.0})
    made += [result("salun", task, [task], seed) for task in TASKS for seed in SEEDS]
    heads, *rows = oracle_gap.table(leaderboard.cells_frame(made, NAMES), ["ua", "drift"])
    assert heads == ["method", "UA %↑", "DRIFT ↓"]
    assert [row[0] for row in rows] == ["oracle", "mimmu", "salun"]
    assert rows[0][1] == "100.0 (100.0..100.0)"
    assert rows[1][1].startswith("-20.0 (-")
    assert rows[1][2] == "-0.020 (-0.020..-0.020)"
    made[-1] = failed(made[-1])
    assert [row[0] for row in oracle_gap.table(leaderboard.cells_frame(made, NAMES), ["ua"])[1:]] == ["oracle", "mimmu"]


def test_a_figure_that_a_cell_lacks_leaves_a_blank() -> None:
    assert oracle_gap.table(cells({}), ["twin"])[1:] == [["oracle", ""], ["mimmu", ""]]


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no finished cell of an oracle"):
        oracle_gap.table(cells({}, ()), ["ua"])
    (tmp_path / "board.csv").write_text("method,ua\nmimmu,100\n")
    (tmp_path / "b-cells.csv").write_text(cells({}).to_csv(index=False))
    for words, said in (
        (["none-cells.csv"], "no such file; a run writes it beside its board"),
        ([str(tmp_path / "board.csv")], "has no column 'task', so it is no board's -cells.csv"),
        ([str(tmp_path / "b-cells.csv"), "--metrics", "fod"], "has no metric 'fod': "),
    ):
        with pytest.raises(SystemExit) as stop:
            oracle_gap.main(words)
        assert stop.value.code == 2
        assert said in " ".join(capsys.readouterr().err.split())
    oracle_gap.main([str(tmp_path / "b-cells.csv")])
    assert capsys.readouterr().out.splitlines()[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
