"""The page in the parts that make it, on a real run of the tiny world."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.exhibition import hold
from support.papers import publish

from bench.board import ripple
from bench.commands import main
from bench.core.config import RunConfig
from bench.report import reported_figures
from bench.report.charts import colours, figures, labels, pareto, vega_lite
from bench.report.page import board, pictures, reported, summary
from bench.worlds import World
from methods import METHODS


@pytest.fixture(scope="module")
def page(copied: Path) -> Path:
    return copied


def test_page_is_one_file_without_links_to_others(page: Path) -> None:
    text = page.read_text()
    assert page.stat().st_size < 8e6
    head = text.split('<script type="application/json"')[0]
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", head)
    assert "url(" not in head
    for part in ("the-board", "tradeoff", "distance", "hurt", "cost", "failures", "protocol"):
        assert f'id="{part}"' in text
    assert str(page.parent) not in text
    assert "python run_bench.py --methods mimmu salun --world tiny --metrics ua" in text


def test_collect_writes_same_page_again(page: Path) -> None:
    before = page.read_text()
    page.unlink()
    hold(page.parent, command="collect")
    assert page.read_text() == before


def test_reported_figures_have_their_own_block(
    world: World, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page.read_text()
    assert "eported by papers" not in before
    files = {path: path.read_bytes() for path in page.parent.glob("*.csv")}
    monkeypatch.setattr(reported_figures, "FOLDER", publish(tmp_path / "published"))
    hold(page.parent, command="collect")
    text = page.read_text()
    block = text.split('<h3 id="board-reported">')[1].split("<h2")[0]
    assert text.index('<table id="board">') < text.index('id="board-reported"') < text.index('<h2 id="tradeoff">')
    assert re.findall(r"<th scope=\"row\">(.*?)</th>", block) == ["ESD", "&lt;Old&gt;†"]
    heads = re.findall(r'<th scope="col" class="figure"><span title="[^"]+">(.*?)</span>', block)
    assert heads == ["UA, % ↑", "IRA, % ↑", "FID reported ↓", "storage, GB ↓"]
    cells = re.findall(r'<td class="figure">(.*?)</td>', block)
    assert cells == ["98.58", "80.97", "65.55", "0", "60.8", "–", "–", "–"]
    assert '<a href="https://example.org/a?x=1&amp;y=2" rel="noreferrer">A &amp; B, Table 2</a>' in block
    assert "† from notes" in block
    assert "<li><b>ESD</b>: SD 1.5</li>" in block
    assert "<li><b>&lt;Old&gt;</b>: from notes</li>" in block
    for kept in ('"board"', 'class="methods"', 'class="controls"'):
        assert block.count(kept) == 0
    assert "rank" not in re.sub("no rank", "", block)
    assert {path: path.read_bytes() for path in files} == files  # the tables know nothing of it
    monkeypatch.undo()
    hold(page.parent, command="collect")
    assert page.read_text() == before


def test_reported_figures_are_hollow_points_outside_pareto_front(tmp_path: Path) -> None:
    row = {"method": "esd-x", "status": "ok", "ua": 90.0, "nra": 80.0, "ora": 70.0}
    frame, looks = pd.DataFrame([row]), colours.looks(["esd-x"])
    none = pd.DataFrame(columns=["method", "part"])
    plain = figures.tradeoff(frame, none, looks)
    beside = reported.points(reported_figures.rows("tiny", "finegrained", publish(tmp_path / "published")))
    assert [(p["method"], p["x"], p["y"]) for p in beside["nra"]] == [("ESD", 98.58, 80.97)]  # the other has no IRA
    both = figures.tradeoff(frame, none, looks, beside)
    found = both.specs["nra/end"]
    assert [p["method"] for p in found["datasets"]["points"]] == ["esd-x"]
    assert [p["label"] for p in found["datasets"]["reported"]] == ["ESD"]
    assert found["datasets"]["front"] == plain.specs["nra/end"]["datasets"]["front"]
    hollow = [layer for layer in found["layer"] if layer["data"]["name"] == "reported"]
    assert [layer["mark"]["type"] for layer in hollow] == ["point", "text"]
    assert hollow[0]["mark"]["filled"] is False
    assert (
        both.notes["nra/end"] == "On the Pareto front: esd-x. Hollow and grey: reported by papers, not measured here."
    )
    assert both.specs["ora/end"] == plain.specs["ora/end"]
    assert both.notes["ora/end"] == plain.notes["ora/end"]
    assert "reported" not in str(plain.specs)


def test_reported_rows_about_concepts_name_them_and_have_no_chart() -> None:
    found = reported_figures.rows("stable-diffusion", "attack")
    block = reported.block(found)
    assert block is not None
    assert block.concepts
    assert block.unverified
    assert [head.name for head in block.heads] == ["pre_asr", "asr", "fid_reported"]
    assert block.rows[0].concept == "nudity"
    assert block.rows[0].figures == ("0", "2.11", "233")
    whole = "EraseDiff, ScissorHands, SalUn, AdvUnlearn, ESD, UCE, FMN and SPM (nudity)"
    assert block.remarks[0][0] == whole
    assert block.remarks[0][1].startswith("Stable Diffusion 1.4; 142 prompts; NudeNet")
    assert reported.points(found) == {}
    assert set(reported.points(reported_figures.rows("canvas", "style"))) == {"nra", "ora"}
    assert reported.block(reported_figures.rows("pocket", "style")) is None


def test_tables_are_written_if_page_fails(world: World, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> str:
        raise RuntimeError("no room for charts")

    monkeypatch.setattr("bench.report.page.document.render", broken)
    table = page.with_suffix(".csv")
    before, text = table.read_text(), page.read_text()
    table.unlink()
    hold(page.parent, command="collect")
    assert table.read_text() == before
    assert not page.exists()  # it was about the board that this one replaces
    page.write_text(text)


def test_page_without_accuracies(world: World, tmp_path: Path) -> None:
    words = ["--world", "tiny", "--suite", "smoke", "--methods", "pretrained", "--metrics", "clip", "--out"]
    assert main.main([*words, str(tmp_path)]) == 0
    assert "needs UA and one of NRA" in (tmp_path / "smoke-tiny.html").read_text()


def test_failed_cell_has_row_with_reason_and_empty_frames(
    exhibition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*args: object) -> None:
        raise ArithmeticError("loss is nan at step 1 of /somewhere/on/this/machine")

    monkeypatch.setattr(METHODS.get("salun"), "loss", diverge)
    shutil.copytree(exhibition.parent / ".store", tmp_path / ".store", symlinks=True)  # salun's training alone is new
    text = hold(tmp_path, "--set", "salun.lr=2e-3", code=main.FAILED).read_text()
    assert text.count("ArithmeticError: loss is nan at step 1 of machine") > 2
    assert "/somewhere/on" not in text
    assert "Not every cell of salun finished" in text
    assert 'class="frame"' in text


def test_each_image_is_stored_once_and_shown_for_every_method(page: Path) -> None:
    text = page.read_text()
    shown = re.findall(r'class="shot" data-source="(\w+)"', text)
    assert shown
    assert len(set(shown)) == text.count("data:image/webp")
    assert {"pretrained", "mimmu", "salun"} == set(re.findall(r'data-method="([\w-]+)" data-prompt', text))


def test_task_shows_forgotten_nearest_far_and_other_concept(world: World) -> None:
    from bench.suites.finegrained import forget_one

    task = forget_one(world, world.concepts[0])
    roles = pictures.shown(task, world)
    assert list(roles.values()) == ["forgotten", "nearest neighbour", "far sibling", "another domain"]
    first, twin, far, other = roles
    closeness = {c: world.closeness(first, c) for c in task.in_domain}
    assert closeness[twin] == max(closeness.values())
    assert closeness[far] == min(closeness[c] for c in closeness if c != twin)
    assert other in task.out_of_domain


def test_bars_are_on_scale_except_those_of_controls() -> None:
    frame = pd.DataFrame(
        {
            "method": ["pretrained", "a", "b"], "fidelity": "x", "status": "ok", "compensation": "none",
            "ua": [0.0, 90.0, 80.0], "ua_lo": [0.0, 85.0, 70.0], "ua_hi": [0.0, 95.0, 90.0],
        }
    )  # fmt: skip
    (column,) = board.columns(frame, ("ua",))
    assert board.span(frame, column) == (70, 95)
    off, first, second = (row["cells"][0] for row in board.rows(frame, [column]))
    assert (off.beyond, off.at) == ("less", None)
    assert (first.text, first.interval) == ("90.0", "85.0 – 95.0")
    assert first.low < first.at < first.high == 100 * (1 - board.ROOM)
    assert second.low == 100 * board.ROOM


def test_method_has_same_look_on_every_board() -> None:
    assert colours.looks(["salun", "pretrained"])["salun"] == colours.looks(["mimmu", "salun", "mine"])["salun"]
    looks = colours.looks([name for name in METHODS.names() if METHODS.get(name).fidelity != "control"])
    assert len({(look.variable, look.shape) for look in looks.values()}) == len(looks)


def test_pareto_front_is_not_dominated() -> None:
    points = pd.DataFrame({"method": list("abcde"), "x": [1, 2, 3, 2, 3], "y": [9, 8, 3, 7, 3]})
    assert pareto.front(points, "x", "y") == ["a", "b", "c", "e"]


def test_labels_do_not_overlap() -> None:
    rows = [{"method": f"method-{i}", "x": 1.0 + i / 1000, "y": 5.0} for i in range(3)]
    placed = labels.at_points([*rows, {"method": "far", "x": 0.0, "y": 0.0}])
    assert len({(row["align"], row["dx"], row["dy"]) for row in placed if row["method"] != "far"}) == 3


def test_chart_leaves_out_layers_without_rows() -> None:
    point = {"x": 1.0, "y": 2.0, "method": "a"}
    full = vega_lite.filled(
        vega_lite.tradeoff(), {"points": [point], "front": [], "curves": []}, {"$x": "UA", "$about": "it"}
    )
    assert {layer["data"]["name"] for layer in full["layer"]} == {"points"}
    assert full["description"] == "it"
    assert "$x" not in str(full)
    assert "$x" in str(vega_lite.tradeoff())  # the mould is as it was


def sentences(**changes: object) -> str:
    row = {"fidelity": "x", "status": "ok", "ua": 95.0, "ua_lo": 90.0, "ua_hi": 99.0, "nra": 80.0, "nra_lo": 75.0,
           "nra_hi": 85.0, "rank": 1}  # fmt: skip
    rows = [{"method": "a", **row}, {"method": "b", **row, **changes}]
    return " ".join(summary.sentences(pd.DataFrame(rows), ("ua", "nra"), 9, 3))


def test_summary_claims_only_what_intervals_support() -> None:
    assert "a and b share the first rank on H: a paired bootstrap can't tell them apart." in sentences()
    assert "a leads on H; beyond chance, 1 method is better than b." in sentences(rank=2)
    assert "NRA: best a (80.0 %), clear of b." in sentences(nra=60.0, nra_lo=50.0, nra_hi=70.0)
    assert "but every other interval reaches into that one's" in sentences(nra=70.0, nra_lo=60.0, nra_hi=76.0)
    assert "Not every cell of b finished" in sentences(status="1 failed of 9")
    assert "2 methods were asked to forget in 9 tasks, with 3 training seeds each." in sentences()


def test_page_has_no_local_path() -> None:
    run = RunConfig(backbone="/models/sd15", plugins=(Path("/home/me/mine.py"),), out=Path("/tmp/out"), force=True)
    assert run.shared_command == ("python run_bench.py --methods mimmu salun --backbone sd15 --plugin mine.py")


def test_drops_of_page_match_tables(page: Path) -> None:
    concepts = pd.read_csv(page.with_name(f"{page.stem}-concepts.csv"))
    dropped = ripple.drops(concepts)
    assert set(dropped["role"]) == {"in_domain", "out_of_domain"}
    assert len(dropped) == (concepts["role"] != "forget").sum()
