"""What a board says about its judges, and which concepts its figures count."""

import pytest
from support.results import cell_result, concept, scores

from bench.board import aggregates, judge_accuracy, tables
from bench.cells.checks.drawn import Recognised
from bench.core.results import CellResult, ConceptResult
from bench.report.cell_warnings import sentences

METRICS = ("ua", "nra", "ora")


def row(name: str, role: str, accuracy: float, untouched: float, near: float) -> ConceptResult:
    undrawn = f"{name} is not drawn" if untouched < 0.5 else ""
    return concept(name, role, accuracy, distances={"text": near}, untouched=untouched, untouched_n=4, undrawn=undrawn)


def results() -> list[CellResult]:
    """Two tasks. Of the concepts that must stay, "d" is not drawn; the second task forgets "e", which is not drawn."""
    made = []
    for method, kept in (("pretrained", 1.0), ("m", 0.5)):
        for task, drawn in (("a", 1.0), ("e", 0.25)):
            rows = [row(task, "forget", 0.0, drawn, 0.0), row("b", "in_domain", kept, 1.0, 0.1)]
            rows += [row("c", "in_domain", 1.0, 0.75, 0.4), row("f", "out_of_domain", 1.0, 1.0, 0.6)]
            rows += [row("d", "in_domain", 0.0, 0.0, 0.2)]
            figures = dict.fromkeys(METRICS, 0.5 if drawn == 1 else None)
            made.append(cell_result(method, task, scores=scores(figures), concepts=tuple(rows)))
    return made


def test_figures_leave_out_what_is_not_drawn() -> None:
    found = results()
    cells, concepts = tables.cells_frame(found, METRICS), tables.concepts_frame(found, METRICS)
    assert concepts["undrawn"].notna().sum() == 6
    counted = judge_accuracy.counted(concepts)
    assert set(counted["task"]) == {"a"}
    assert set(counted["concept"]) == {"a", "b", "c", "f"}
    measured = aggregates.measured(found, METRICS, cells, concepts)
    assert set(measured.dropped["concept"]) == {"b", "c", "f"}
    board = tables.board_frame(found, METRICS, "full").set_index("method")
    assert board.loc["m", "ua"] == 50
    assert board.loc["m", "untouched_n"] == 6 * 4
    assert board.loc["m", "untouched"] == pytest.approx(100 * (1 + 0.25 + 1 + 0.75 + 1 + 0) / 6)
    assert sentences(found) == [f"{name} is not drawn; no figure and no rank counts it." for name in ("d", "e")]


def test_board_without_line_has_no_further_columns() -> None:
    half = scores(dict.fromkeys(METRICS, 0.5))
    plain = [cell_result("m", "a", scores=half, concepts=(concept("a", "forget", 0.0),))]
    concepts = tables.concepts_frame(plain, METRICS)
    assert not {*judge_accuracy.UNTOUCHED} & {*concepts, *tables.board_frame(plain, METRICS, "full")}
    assert judge_accuracy.counted(concepts) is concepts


def test_half_of_the_images_is_enough() -> None:
    assert Recognised("a", 2, 4, 0.5).reason == ""
    assert "recognises 1 of its 4 images, fewer than 50%" in Recognised("a", 1, 4, 0.5).reason
