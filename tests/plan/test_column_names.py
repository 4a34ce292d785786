"""A metric's name never makes a column of a board into another column, whatever it ends with."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from support import sequels
from support.requested import NAMES
from support.results import cell_result

from bench.board import aggregates, clusters, curve, ripple, tables
from bench.commands import main
from bench.core.results import CurvePoint
from bench.core.score import Score
from bench.plan import column_names, plugins
from bench.plan.column_names import ENDS, collision, family
from bench.report import markdown, terminal
from bench.report.page import board as page_board
from bench.worlds import World
from metrics import COSTS, METRICS

pytestmark = pytest.mark.usefixtures("plugged")

ODD = ("top_n", "top_lo", "top_hi", "top_drop", "top_drop_lo", "judges", "ripples", "final", "text_n", "method-n")
FEW = ("pretrained", "mimmu")


def written(board: sequels.Board, folder: Path, metrics: Sequence[str] = NAMES) -> tables.Tables:
    return tables.write(board[1], metrics, folder, "board", "full", {})


@pytest.mark.parametrize(
    "make",
    [
        lambda world: sequels.sets(world, FEW),
        lambda world: sequels.chain(world, FEW, 3),
        lambda world: sequels.recovery(world, FEW, 2),
        sequels.sweep,
    ],
)
def test_every_column_that_is_of_no_metric_is_refused_as_a_metrics_name(
    make: Callable[[World], sequels.Board], world: World, tmp_path: Path
) -> None:
    tables = written(make(world), tmp_path)
    own = {column for name in METRICS.names() for column in family(name)}
    frames = (tables.board, tables.cells, tables.concepts, tables.curve, ripple.drops(tables.concepts))
    others = {str(column) for frame in frames for column in frame} - own
    assert {"rank", "seconds", "judge_n", "h_lo"} < others
    assert not [column for column in others if column not in own and not collision(column, METRICS.names())]


def test_what_stands_for_a_family_of_columns_is_what_boards_have() -> None:
    assert column_names.MATCHED == aggregates.AT
    assert {cost.name for cost in COSTS} <= set(column_names.FIXED)
    every = ["h", "final_ua", "back_auc", "relearn_never_20", "ua_k4", "ripple", "ripple_judge_lo", "ripple_judge"]
    assert {one.name for one in aggregates.described(every)} == {*every} - {"ripple_judge_lo"}


def test_no_built_in_metric_collides() -> None:
    assert not [name for name in METRICS.names() if collision(name, {*METRICS.names()} - {name})]


@pytest.mark.parametrize(
    ("name", "others", "said"),
    [
        ("seconds", (), "the column 'seconds' of the table of methods"),
        ("seconds_lo", (), "the column 'seconds' of the table of methods"),
        ("Rank", (), "the column 'rank' of the table of methods"),
        ("method", (), "the column 'method' of the table of methods"),
        ("reason", (), "the column 'reason' of the table of cells"),
        ("accuracy", (), "the column 'accuracy' of the table of concepts"),
        ("part", (), "the column 'part' of the table of checkpoints"),
        ("drop", (), "the column 'drop' of the table of concepts"),
        ("judge_n", (), "a column for the accuracy of a judge ('judge_n')"),
        ("judge_birds", (), "a column for the accuracy of a judge ('judge_birds')"),
        ("h", (), "a column for H or for a number of concepts that are forgotten at once ('h')"),
        ("ua_k4_hi", (), "a column for H or for a number of concepts that are forgotten at once ('ua_k4')"),
        ("final_ua", (), "a column for sequences of requests ('final_ua')"),
        ("relearn_auc", (), "a column for models that are trained further ('relearn_auc')"),
        ("ripple_text", (), "a column for the loss by distance ('ripple_text')"),
        ("all", (), "the word for all metrics in --metrics"),
        ("cost", (), "the word for what a method costs in --metrics"),
        ("twin_drop", ("twin",), "a column of the metric 'twin'"),
        ("top_n", ("top",), "a column of the metric 'top'"),
        ("top", ("top_drop_lo",), "a column of the metric 'top_drop_lo'"),
        ("TOP", ("top",), "a column of the metric 'top'"),
    ],
)
def test_a_collision_says_with_what(name: str, others: tuple[str, ...], said: str) -> None:
    assert collision(name, others) == said


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_a_name_like_any_other(name: str, world: World, tmp_path: Path) -> None:
    usual, odd = sequels.chain(world, FEW, 2), sequels.chain(world, FEW, 2)
    METRICS.add(name, dataclasses.replace(METRICS.get("twin"), name=name, each=lambda given: [0.25]))
    plugins.checked(METRICS, name)
    tasks, results = odd
    for i, one in enumerate(results):
        scores = {**one.scores, name: Score(0.123, 7)}
        concepts = [dataclasses.replace(c, figures={**c.figures, name: 0.123}) for c in one.concepts]
        curve = tuple(CurvePoint(part, scores) for part in (0.0, 1.0))
        results[i] = dataclasses.replace(one, scores=scores, concepts=tuple(concepts), curve=curve)
    before, after = written(usual, tmp_path), written((tasks, results), tmp_path, (*NAMES, name))
    for field in ("board", "cells", "concepts"):
        old, new = getattr(before, field), getattr(after, field)
        pd.testing.assert_frame_equal(new[list(old)], old)
        assert new[name].tolist() == pytest.approx([12.3] * len(new))
        assert new[name].dtype == float
    assert set(after.board) - set(before.board) == family(name) & set(after.board)
    assert after.board[f"{name}_n"].dtype == after.cells[f"{name}_n"].dtype == "Int64"
    shown = [one.name for one in terminal.columns_of(after.board, (*NAMES, name))]
    assert shown.count(name) == 1
    assert "12.3" in markdown.table(after.board, ("ua", name), "title")
    terminal.show(after.board, ("ua", name), "title")
    (column,) = [c for c in page_board.columns(after.board, (*NAMES, name)) if c.name == name]
    low, high = page_board.span(after.board, column) or (0, 0)
    assert low <= 12.3 <= high
    assert clusters.figure(after.cells, name).mean == pytest.approx(12.3)


def test_an_odd_name_has_a_curve() -> None:
    METRICS.add("top_n", dataclasses.replace(METRICS.get("nra"), name="top_n"))
    scores = {"ua": Score(0.5, 6), "top_n": Score(0.25, 12)}
    points = curve.frame([cell_result("mimmu", "t", curve=(CurvePoint(1.0, scores),))], ("ua", "top_n"))
    along = curve.means(points)
    assert along["top_n"].tolist() == [25.0]
    assert [name for name in along if name.startswith("top")] == ["top_n", "top_n_lo", "top_n_hi"]
    assert ENDS == ("_lo", "_hi", "_n")


PLUGIN = """
from dataclasses import replace
from metrics import METRICS
from metrics.nra import NRA

METRICS.add("top_n", replace(NRA, name="top_n", each=lambda given: [0.5] * len(given.requested)))
"""


def test_a_run_with_an_odd_name_has_all_its_tables_and_its_report(world: World, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(PLUGIN)
    named = ("--methods", "mimmu", "--suite", "smoke", "--world", "tiny", "--metrics", "ua", "nra", "ora", "top_n")
    more = ("--curve", "2", "--plugin", str(tmp_path / "odd.py"), "--workers", "1", "--out", str(tmp_path))
    assert main.main([*named, *more]) == 0
    board = pd.read_csv(tmp_path / "smoke-tiny.csv")
    assert board["top_n"].tolist() == board["nra"].tolist()
    assert board["top_n_n"].tolist() == board["nra_n"].tolist() == [6] * 3
    assert pd.read_csv(tmp_path / "smoke-tiny-concepts.csv")["top_n"].eq(50).all()
    points = pd.read_csv(tmp_path / "smoke-tiny-curve.csv")
    assert points["top_n"].tolist() == points["nra"].tolist()
    assert "TOP N" in (tmp_path / "smoke-tiny.html").read_text()


@pytest.mark.parametrize("name", ["seconds", "method", "twin_drop", "rank", "judge_birds", "h", "fid_extractor"])
def test_a_metric_whose_columns_are_taken_is_refused_when_it_is_loaded(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.py").write_text(PLUGIN.replace("top_n", name))
    assert main.main(["ls", "metrics", "--plugin", str(tmp_path / "odd.py")]) == 2
    assert f"odd.py: metric '{name}' collides with " in capsys.readouterr().out
