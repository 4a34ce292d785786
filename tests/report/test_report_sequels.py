"""The charts of sets, sequences, fine-tunings and sweeps: what they show, and that no other page has them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import sequels
from support.requested import NAMES, finetuned, result, sequence, variant

from bench.board import relearning, several, tables
from bench.board import sequences as board_sequences
from bench.board import sweeps as board_sweeps
from bench.report import terminal
from bench.report.charts import colours, figures, labels, lines, resurgence, sequences, sets, sweeps
from bench.report.page import board, document, summary
from bench.worlds import World
from metrics import METRICS

PARTS = {"sets": ["many"], "chain": ["matrix", "along"], "recovery": ["back"], "sweep": ["swept"]}


def looks(*methods: str) -> dict[str, colours.Look]:
    return colours.looks(list(methods))


def rows(spec: dict[str, Any], name: str = "lines") -> list[dict[str, Any]]:
    return spec["datasets"][name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARTS)
def test_page_has_only_charts_of_its_results(world: World, tmp_path: Path, kind: str) -> None:
    text = sequels.write(world, kind, tmp_path).read_text()
    head = text.split('<script type="application/json"')[0]
    assert [part for part in document.ADDED if f'<h2 id="{part}">' in head] == PARTS[kind]
    assert [part for part in document.ADDED if f'<a href="#{part}">' in head] == PARTS[kind]
    assert {part for part in document.ADDED if f'data-chart="{part}' in head} == {*PARTS[kind]}
    assert "neighbour</option>" not in head  # bands of these suites are no distances
    by = re.findall(r"told apart by ([A-Z ]+) on these tasks", head)
    assert by == ([] if kind == "recovery" else ["FINAL H"] if kind == "chain" else ["H"])
    assert head.count("Here a mean is over") == (3 if kind in ("chain", "recovery") else 0)
    if kind == "recovery":
        heads = dict(re.findall(r'data-task="([^"]+)".*?<thead>(.*?)</thead>', head, re.DOTALL))
        assert {"oracle" in names for names in heads.values()} == {True, False}  # it is there for some tasks alone
        assert all("mimmu" in names for names in heads.values())
        assert ">not run</span>" not in head


def test_each_kind_of_result_has_its_charts(world: World) -> None:
    _, results = sequels.mixed(world)
    names = list(dict.fromkeys(r.method for r in results))
    known = colours.looks(names, {r.method: r.base_method for r in results})
    found = document.added(results, tables.cells_frame(results, ("ua",)), known)
    assert list(found) == list(document.ADDED)
    specs = document.specs(found)
    assert len({name.split("/")[0] for name in specs}) == len(document.ADDED)
    left = re.findall(r"\$[a-z]\w*", str({name: [v["spec"] for v in one.values()] for name, one in specs.items()}))
    assert {word for word in left if word != "$schema"} == set()  # every title has its words


def test_page_of_general_suite_has_general_charts(world: World) -> None:
    plain = [result(name, task, [task], ua=0.9) for name in ("pretrained", "mimmu") for task in "xy"]
    found = document.added(plain, tables.cells_frame(plain, NAMES), looks("pretrained", "mimmu"))
    assert found == {}
    assert document.style(False, False) == document.part("style.css")
    text = document.environment().get_template("added.html.j2").render(figures={})
    assert text == ""


def test_chart_by_number_of_concepts_omits_controls_and_lists_ways() -> None:
    cells = [
        result(method, f"{k}{i}", [*"abcd"[:k]], ua=1 - k / 10 - i / 100, multi=way)
        for method, way in (("pretrained", "joint"), ("mimmu", "joint"), ("esd-x", "alternate"))
        for k in (1, 2, 4)
        for i in range(2)
    ]
    frame = several.frame(tables.cells_frame(cells, NAMES))
    made = sets.figure(frame, looks("pretrained", "mimmu", "esd-x"), {r.method: r.multi for r in cells})
    assert made is not None
    assert list(made.choices["figure"]) == ["h", "ua", "nra", "ora", "drift"]  # nobody has a nearest neighbour here
    assert set(made.specs) == set(made.choices["figure"])
    assert made.notes["ua"] == "All concepts in every step: mimmu. One concept a step, in turn: esd-x."
    drawn = rows(made.specs["ua"])
    assert [(r["method"], r["x_text"], r["y"]) for r in drawn[:3]] == [
        ("mimmu", "1", 89.5), ("mimmu", "2", 79.5), ("mimmu", "4", 59.5)
    ]  # fmt: skip
    assert all(r["y_lo"] < r["y"] < r["y_hi"] for r in drawn)
    assert [(r["label"], r["colour"]) for r in rows(made.specs["ua"], "names")] == [
        (name, look.css) for name, look in looks("mimmu", "esd-x").items()
    ]


SEQUENCE = [{"a": 1.0}, {"a": 0.5, "b": 0.9}, {"a": 0.2, "b": 0.8, "c": 1.0}]


def test_matrix_has_no_cell_before_request_of_concept() -> None:
    worse = [{name: ua - 0.1 for name, ua in step.items()} for step in SEQUENCE]
    both = [*sequence("mimmu", SEQUENCE), *sequence("mimmu", worse, seed=1), *sequence("wrecked", SEQUENCE)]
    made = sequences.matrix(board_sequences.matrix(both), looks("wrecked", "mimmu"))
    assert made is not None
    assert list(made.panels) == ["mimmu"]
    spec = made.panels["mimmu"].specs[""]
    assert [(r["after"], r["concept"], r["text"]) for r in rows(spec, "cells")] == [
        ("1 a", "a", "95"), ("2 b", "a", "45"), ("2 b", "b", "85"),
        ("3 c", "a", "15"), ("3 c", "b", "75"), ("3 c", "c", "95"),
    ]  # fmt: skip
    assert rows(spec, "cells")[1]["each"] == "50.0 (seed 0), 40.0 (seed 1)"
    assert [(r["after"], r["concept"]) for r in rows(spec, "asked")] == [("1 a", "a"), ("2 b", "b"), ("3 c", "c")]
    for axis, order in (("x", ["a", "b", "c"]), ("y", ["1 a", "2 b", "3 c"])):
        assert spec["layer"][0]["encoding"][axis]["scale"]["domain"] == order


def test_each_sequence_has_its_own_panel() -> None:
    both = [*sequence("mimmu", SEQUENCE), *sequence("mimmu", [{"c": 1.0}, {"c": 1.0, "a": 1.0}], chain="ca")]
    made = sequences.matrix(board_sequences.matrix(both), looks("mimmu"))
    assert made is not None
    assert list(made.panels) == ["mimmu · sequence 1", "mimmu · sequence 2"]
    assert len(rows(made.panels["mimmu · sequence 2"].specs[""], "cells")) == 3


def test_chart_along_sequence_sums_seconds_and_names_requests() -> None:
    cells = tables.cells_frame(sequence("mimmu", SEQUENCE, seconds=[10, 20, 30]), NAMES)
    made = sequences.along(board_sequences.along(cells), looks("mimmu"))
    assert made is not None
    assert list(made.choices["figure"].items())[-1] == ("seconds", "seconds")
    assert [r["y"] for r in rows(made.specs["seconds"])] == [10, 30, 60]
    assert [r["x_text"] for r in rows(made.specs["ua"])] == ["1: a", "2: b", "3: c"]
    assert [r["y"] for r in rows(made.specs["ua"])] == pytest.approx([100, 70, 200 / 3], rel=1e-4)


def test_relearning_chart_has_references_and_half_accuracy_rule() -> None:
    found = [
        *(finetuned("pretrained", of, "retained, full", [0.8, 0.9, 1.0]) for of in "ab"),
        *(finetuned("mimmu", of, "retained, full", [0.0, 0.3, 0.6]) for of in "ab"),
        *(finetuned(name, "a", "5 pictures", [0.0, 0.5, 1.0]) for name in ("mimmu", "oracle")),
    ]
    made = resurgence.figure(relearning.means(relearning.frame(found)), looks("pretrained", "mimmu", "oracle"))
    assert made is not None
    assert made.choices["trained on"] == {"0": "retained, full", "1": "5 pictures"}
    full, few = made.specs.values()
    assert [(r["x_text"], r["y"]) for r in rows(full)] == [("0", 0), ("100", 30), ("200", 60)]
    assert {r["method"] for r in rows(full, "references")} == {"pretrained"}
    assert [r["y"] for r in rows(full, "levels")] == [40]
    assert {r["method"] for r in rows(few, "references")} == {"oracle"}
    assert rows(few, "levels") == []  # nothing is known of the untouched model here
    dashed = [layer for layer in full["layer"] if "strokeDash" in layer["mark"]]
    assert [layer["data"]["name"] for layer in dashed] == ["references"]
    assert "picked" not in str(dashed[0]["encoding"])


def test_relearning_chart_keeps_training_of_references_only() -> None:
    found = [finetuned("mimmu", "a", "retained, full", [0, 1]), finetuned("wrecked", "a", "5 pictures", [0, 0])]
    made = resurgence.figure(relearning.means(relearning.frame(found)), looks("wrecked", "mimmu"))
    assert made is not None
    assert rows(made.specs["1"]) == []
    assert len(rows(made.specs["1"], "references")) == 2
    assert resurgence.figure(relearning.means(relearning.frame(found[1:])), looks("wrecked")) is None


PLAIN = {"lr": 1e-5, "t_max": 600, "weighting": "uniform"}


def swept_panels(*values: dict[str, Any]) -> dict[str, Any]:
    cells = [variant(task, PLAIN | one, one, ua=0.9 - i / 10) for i, task in enumerate("xy") for one in values]
    made = sweeps.figure(board_sweeps.frame(tables.cells_frame(cells, NAMES)))
    assert made is not None
    assert list(made.choices["figure"]) == ["h", "ua", "nra", "ora", "drift"]
    return {field: panel.specs["ua"] for field, panel in made.panels.items()}


def test_sweep_draws_lines_for_numbers_dots_for_words_and_ring_for_default() -> None:
    found = swept_panels({}, {"lr": 1e-6}, {"lr": 1e-4}, {"t_max": 300}, {"weighting": "snr"})
    assert list(found) == ["lr", "t_max", "weighting"]
    for field, plain in (("lr", "1e-05"), ("t_max", "600"), ("weighting", "uniform")):
        assert [r["value"] for r in rows(found[field], "rings")] == [plain]
    x = [found[field]["layer"][0]["encoding"]["x"] for field in found]
    assert [one["type"] for one in x] == ["quantitative", "quantitative", "nominal"]
    assert [one["scale"]["type"] for one in x[:2]] == ["log", "linear"]
    assert x[0]["axis"]["values"] == [1e-6, 1e-5, 1e-4]
    assert rows(found["lr"], "names") == []  # one line needs no name
    assert "line" in {layer["mark"]["type"] for layer in found["lr"]["layer"]}
    assert "line" not in {layer["mark"]["type"] for layer in found["weighting"]["layer"]}
    assert "picked" not in str([layer["encoding"] for layer in found["lr"]["layer"]])


def test_sweep_has_one_line_per_value_of_other_settings() -> None:
    found = swept_panels(*({"lr": lr, "t_max": t} for lr in (1e-6, 1e-4) for t in (300, 900)))
    assert {r["label"] for r in rows(found["t_max"], "names")} == {"lr=1e-06", "lr=0.0001"}
    assert rows(found["t_max"], "rings") == []  # the plain setting is not among them
    assert len({r["series"] for r in rows(found["lr"])}) == 2


def test_variants_have_colour_of_method_and_own_shapes() -> None:
    names = {f"mimmu t_max={t}": "mimmu" for t in (200, 300, 400)} | {"salun": "salun", "esd-x lr=1": "esd-x"}
    found = colours.looks(["pretrained", "mimmu", *names], names)
    assert {found[name].css for name, of in names.items() if of == "mimmu"} == {looks("mimmu")["mimmu"].css}
    assert len({found[name].shape for name in found if name.startswith("mimmu")}) == 4
    assert found["salun"] == looks("salun")["salun"]
    assert found["esd-x lr=1"].css == looks("esd-x")["esd-x"].css
    assert [found[name].setting for name in ("mimmu", "mimmu t_max=200", "esd-x lr=1")] == ["", "t_max=200", "lr=1"]


def test_oracle_is_grey_and_outside_pareto_front() -> None:
    row = {"status": "ok", "fidelity": "x", "ua": 90.0, "nra": 80.0}
    frame = pd.DataFrame([{"method": "mimmu", **row}, {"method": "oracle", **row, "ua": 100.0, "nra": 100.0}])
    none = pd.DataFrame(columns=["method", "part"])
    known = looks("mimmu", "oracle", "mine")
    assert known["oracle"].css == looks("wrecked")["wrecked"].css
    assert known["mine"] == looks("mine")["mine"]
    made = figures.tradeoff(frame, none, known)
    assert made.notes["nra/end"] == "On the Pareto front: mimmu."
    assert "oracle" not in summary.sentences(frame, ("ua", "nra"), 9, 3)[0]


def test_variant_has_label_only_if_there_is_room() -> None:
    crowd = [{"method": f"m x={i}", "spare": f"x={i}", "x": i / 1000, "y": 5.0} for i in range(20)]
    placed = labels.at_points([*crowd, {"method": "plain", "x": 0.01, "y": 5.0}, {"method": "far", "x": 9.0, "y": 9.0}])
    found = {row["method"]: row["label"] for row in placed}
    assert found["plain"] == "plain"
    assert found["far"] == "far"
    assert 0 < sum(name != "" for name in found.values()) < 10


def test_labels_at_line_ends_do_not_overlap_and_keep_order() -> None:
    ends = [
        {"series": name, "method": name, "colour": "", "x": 1.0, "y": y}
        for name, y in zip("abcdef", [99, 98, 98, 50, 1, 0.5], strict=True)
    ]
    placed = labels.at_ends([*ends, {**ends[0], "x": 0.0, "y": 0.0}], 0, 100, 320)
    assert [row["method"] for row in placed] == ["f", "e", "d", "c", "b", "a"] or [row["method"] for row in placed] == [
        "f",
        "e",
        "d",
        "b",
        "c",
        "a",
    ]
    heights = [row["y"] * 3.2 for row in placed]
    assert all(above - below >= labels.LINE - 1e-6 for below, above in pairwise(heights))
    assert -labels.LINE < heights[0] < heights[-1] <= 320


def test_intervals_at_same_number_are_drawn_side_by_side() -> None:
    points = [{"series": name, "x": x} for name in "abc" for x in (1, 10)]
    for log in (False, True):
        moved = lines.spread(points, 1, 10, log)
        assert len({row["x"] for row in moved}) == 6
        assert all(abs(new["x"] / old["x"] - 1) < 0.1 for new, old in zip(moved, points, strict=True))
    assert lines.logarithmic([1e-5, 1e-3])
    assert not lines.logarithmic([0, 1000])
    assert not lines.logarithmic([1, 2, 4, 8])
    assert lines.number(pd.NA) is None


@pytest.mark.parametrize("metrics", [METRICS.names(), ("ua", "headnoun")], ids=["all", "chosen"])
@pytest.mark.parametrize("names", [["final_h", "worst_return"], ["back_auc", "relearn_half", "relearn_half_5"]])
def test_page_of_suite_with_own_columns_starts_with_terminal_columns(names: list[str], metrics: list[str]) -> None:
    frame = pd.DataFrame([dict.fromkeys(["h", "ua", "nra", "headnoun", "drift", "ripple", *names], 1.0)])
    first = {column.name for column in board.columns(frame, metrics) if column.headline}
    assert first == {one.name for one in terminal.columns_of(frame, metrics) if one.name in frame}
    assert first == {names[0], names[1], *(["ua", "headnoun"] if len(metrics) == 2 else [])}


def test_every_column_has_description() -> None:
    told = (Path(__file__).parents[2] / "docs" / "reading-the-report.md").read_text()
    heads = re.findall(r"<h2 id=\"\w+\">(.+?)</h2>", document.part("added.html.j2"))
    assert len(heads) == len(document.ADDED)
    assert [head for head in heads if f"**{head}**" not in told] == []


@pytest.mark.parametrize(
    ("figures", "headlines", "said"),
    [
        (
            {"back_auc": (5.0, 40.0), "relearn_half": (20.0, 10.0), "relearn_half_5": (9.0, 8.0)},
            ["back_auc", "relearn_half"],
            ["BACK AUC: best a (5.0 %), clear of b.", "RELEARN HALF: best a (20.0), clear of b."],
        ),
        ({"back_auc": (5.0, 40.0), "relearn_half": (None, 10.0)}, ["back_auc", "relearn_half"], ["BACK AUC"]),
        (
            {"final_h": (90.0, 20.0), "worst_return": (0.0, 8.0)},
            ["final_h", "worst_return"],
            ["leads on FINAL H", "WORST RETURN: best a (0.0), clear of b."],
        ),
        ({}, ["h", "ua", "nra"], ["leads on H;", "UA", "NRA: best a (80.0 %), clear of b."]),
    ],
)
def test_general_means_of_unlike_states_are_not_headlines(
    figures: dict[str, tuple[float | None, float]], headlines: list[str], said: list[str]
) -> None:
    rows = []
    for i, name in enumerate("ab"):
        row = {"method": name, "status": "ok", "rank": i + 1, "h": 90.0 - i, "ua": 50.0, "nra": 80.0 - 40 * i}
        row |= {key: pair[i] for key, pair in figures.items()}
        ends = {f"{key}{end}": row[key] for key in ("h", "ua", "nra", *figures) for end in ("_lo", "_hi")}
        rows.append(row | ends | ({"rank": None} if "back_auc" in figures else {}))
    frame, metrics = pd.DataFrame(rows), METRICS.names()
    assert [column.name for column in board.columns(frame, metrics) if column.headline] == headlines
    told = summary.sentences(frame, metrics, 3, 2)
    assert [words for words in said if not any(words in one for one in told)] == []
    assert any("UA" in one or "NRA" in one for one in told) == (not figures)
    assert any("RELEARN HALF" in one for one in told) == (None not in figures.get("relearn_half", (None,)))


def test_a_finished_model_after_several_steps_is_a_trail_and_one_of_few_tasks_is_not_compared() -> None:
    row = {"status": "ok", "fidelity": "given", "cells": 9}
    steps = [{"method": f"theirs@{n}", **row, "ua": n / 10, "nra": 100 - n / 20} for n in (1000, 50, 200)]
    best = {"method": "few", **row, "cells": 2, "ua": 100.0, "nra": 100.0}
    method = {"method": "mimmu", **row, "fidelity": "published", "ua": 95.0, "nra": 90.0}
    frame, none = pd.DataFrame([method, *steps, best]), pd.DataFrame(columns=["method", "part"])
    known = looks(*frame["method"])
    made = figures.tradeoff(frame, none, known)
    assert made.choices["view"] == {"end": "after training", "way": "and on the way"}
    trail = made.specs["nra/way"]["datasets"]["curves"]
    assert [(p["method"], p["part"], p["x"], p["y"]) for p in trail] == [
        ("theirs", 0.05, 5.0, 97.5), ("theirs", 0.2, 20.0, 90.0), ("theirs", 1.0, 100.0, 50.0)
    ]  # fmt: skip
    assert {p["colour"] for p in trail} == {known["theirs@1000"].css}
    assert "few" not in made.notes["nra/end"]
    assert "few" in {p["method"] for p in made.specs["nra/end"]["datasets"]["points"]}
