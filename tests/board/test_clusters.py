import numpy as np
import pandas as pd
import pytest
from support.requested import NAMES, finetuned, result, sequence
from support.results import failed

from bench.board import clusters, relearning, sequences, tables
from bench.core.results import CellResult
from bench.report import terminal

ALONE = [result("a", t, [t], ua=u) for t, u in (("x", 1.0), ("y", 0.5))]
REQUESTS = [
    one
    for name, uas in (("p", (1.0, 0.8)), ("q", (0.6, 0.4)))
    for one in sequence("a", [{"c": uas[0]}, {"c": uas[1], "d": uas[1]}], name)
]
PROBES = [finetuned("a", of, kind, [0.0, 0.5]) for of in ("x", "y") for kind in ("unrelated, full", "5 pictures")]


@pytest.mark.parametrize("rows", [ALONE, REQUESTS, PROBES])
def test_results_and_cells_name_the_same_clusters(rows: list[CellResult]) -> None:
    found = clusters.named(tables.cells_frame(rows, NAMES)).tolist()
    assert found == [clusters.of_result(row) for row in rows]
    assert len(set(found)) == 2


def test_of_a_sequence_and_of_fine_tunings_means_are_drawn_together() -> None:
    cells = tables.cells_frame(REQUESTS, NAMES)
    assert clusters.pooled(cells, ["ua"]) == {("p", 0): [pytest.approx(90)], ("q", 0): [pytest.approx(50)]}
    assert clusters.figure(cells, "ua").mean == pytest.approx(70)
    assert clusters.parts(cells)[:, 0].tolist() == pytest.approx([90, 50])
    slopes = {(row.task, 0): float(i) for i, row in enumerate(REQUESTS)}
    assert clusters.of_tasks(slopes, cells) == {("p", 0): [0.5], ("q", 0): [2.5]}
    assert clusters.of_tasks({}, cells) == {}
    assert list(clusters.pooled(tables.cells_frame(PROBES, NAMES), ["ua"])) == [("x", 0), ("y", 0)]


def test_h_needs_every_part_of_every_cell_and_a_mean_what_there_is() -> None:
    cells = tables.cells_frame([*ALONE, result("a", "z", ["z"], ora=None)], NAMES)
    assert np.isnan(clusters.harmonic(cells).mean)
    assert clusters.images(cells, clusters.H) is None
    assert (clusters.figure(cells, "ora").mean, clusters.images(cells, "ora")) == (100, 20)
    assert clusters.images(cells[cells["task"] == "z"], "ora") is None


@pytest.mark.parametrize("rows", [REQUESTS, PROBES, [result("a", "cd", ["c", "d"])]])
def test_where_nothing_finished_there_are_no_figures(rows: list[CellResult]) -> None:
    lost = [failed(row) for row in rows]
    board = tables.board_frame(lost, NAMES, "full")
    assert board["status"].tolist() == [f"{len(rows)} failed of {len(rows)}"]
    figures = [c for c in board if c not in ("method", "fidelity", "way", "status", "cells", "protocol", "fingerprint")]
    assert not board[figures].drop(columns="judge_n").notna().any(axis=None)
    terminal.show(board, NAMES, "title")
    assert sequences.matrix(lost).empty
    assert sequences.along(tables.cells_frame(lost, NAMES)).empty
    assert relearning.means(relearning.frame(lost)).empty
    assert isinstance(tables.concepts_frame(lost, NAMES), pd.DataFrame)
