"""What the documents tell the reader to do works as written."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from support import guide, requested
from support.results import cell_result, concept, scores

from bench.board import aggregates, curve, relearning, tables
from bench.commands import arguments, main
from bench.core.config import RunConfig
from bench.core.results import CurvePoint
from bench.plan.plan import Plan, resolve
from bench.worlds import WORLDS, World
from bench.worlds.base import classify
from bench.worlds.natural.judges import train
from bench.worlds.pocket.recipe import oracle
from benchmarks import hours, memory
from metrics import COSTS, METRICS

ROOT = Path(__file__).parent.parent


def run(tmp_path: Path, document: str, name: str, *arguments: str) -> pd.DataFrame:
    """The board of a smoke run with the plugin that `document` shows."""
    plugin = str(guide.plugin(document, name))
    small = ["--world", "tiny", "--suite", "smoke", "--out", str(tmp_path)]
    assert main.main([*small, "--plugin", plugin, *arguments]) == 0
    return pd.read_csv(tmp_path / "smoke-tiny.csv").set_index("method")


def test_the_method_of_the_guide_runs(world: World, plugged: None, tmp_path: Path) -> None:
    arguments = ("--methods", "neighbour", "--metrics", "ua")
    board = run(tmp_path, "add-a-method.md", "neighbour.py", *arguments)
    assert board.loc["neighbour", "status"] == "ok"
    assert board.loc["neighbour", "compensation"] == "anchor prompts"


def test_the_method_of_the_guide_that_acts_while_sampling_runs(world: World, plugged: None, tmp_path: Path) -> None:
    board = run(tmp_path, "add-a-method.md", "subtract.py", "--methods", "subtract", "--metrics", "drift")
    assert board.loc["subtract", "status"] == "ok"
    assert board.loc["subtract", "compensation"] == "none"
    assert board.loc["subtract", "seconds"] == 0
    assert board.loc["subtract", "drift"] > 0


def test_the_metric_of_the_guide_runs(world: World, plugged: None, tmp_path: Path) -> None:
    board = run(tmp_path, "add-a-metric.md", "spread.py", "--methods", "pretrained", "--metrics", "ua", "spread")
    assert board["spread_n"].tolist() == [3, 3]
    assert board["spread"].gt(0).all()


@pytest.mark.usefixtures("plugged")
def test_world_of_guide_runs_and_keeps_the_contract_of_worlds(tmp_path: Path) -> None:
    file = guide.plugin("add-a-world.md", "colours.py")
    small = ["--set", "protocol.images_per_concept=2", "protocol.num_inference_steps=2", "mimmu.epochs=1"]
    command = ["--plugin", str(file), "--world", "colours", "--suite", "smoke", "--methods", "mimmu", *small]
    assert main.main([*command, "--metrics", "ua", "nra", "fid", "--out", str(tmp_path)]) == 0
    (board,) = (f for f in tmp_path.glob("smoke-colours*.csv") if not f.stem.endswith(("-cells", "-concepts")))
    assert pd.read_csv(board)["status"].eq("ok").all()
    world = WORLDS.get("colours")
    assert not {*world.prompts("forget", "red")} & {*world.prompts("evaluate", "red")}
    for colour in world.concepts:
        images = world.reference(colour, 3)
        assert torch.equal(world.reference(colour, 2), images[:2])
        judge = world.judge(world.judge_of(colour), torch.device("cpu"))
        logits, features = classify(judge, images)
        assert {judge.labels[i] for i in logits.argmax(1)} == {colour}
        assert torch.equal(judge.head(features), logits)
        assert world.closeness(colour, colour) == 1


@pytest.mark.usefixtures("plugged")
def test_suite_of_guide_makes_tasks_of_its_own_and_of_request(world: World, tmp_path: Path) -> None:
    file = guide.plugin("add-a-suite.md", "firsts.py")

    def resolved(*forget: str) -> Plan:
        return resolve(RunConfig(("mimmu",), "firsts", "tiny", plugins=(file,), forget=forget, out=tmp_path))

    plan = resolved()
    assert [task.forget for task in plan.tasks] == [members[:1] for members in world.domains.values()]
    assert [task.in_domain for task in plan.tasks] == [members[1:] for members in world.domains.values()]
    assert plan.protocol.images_per_concept == 4
    assert {cell.config.epochs for cell in plan.cells} == {5}
    assert [task.name for task in resolved(*world.concepts[3:5]).tasks] == [*world.concepts[3:5]]


DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def commands(text: str, program: str) -> list[list[str]]:
    """The words after `program` in every command of a text: its lines that are indented, with their continuations."""
    lines = text.replace("\\\n", " ")
    found = re.findall(rf"^ {{4}}(?:[A-Z_]+=\S+ )?{re.escape(program)}(?: ([^\n#&>|]*))?", lines, re.MULTILINE)
    return [shlex.split(words) for words in found]


def test_the_commands_of_the_documents_are_understood() -> None:
    epilogs = [getattr(main.COMMANDS[name].load(), "EPILOG", "").replace("\n  ", "\n    ") for name in main.COMMANDS]
    text = "\n".join([*(file.read_text() for file in DOCUMENTS), main.EPILOG, *epilogs])
    seen = set()
    for words in commands(text, "python run_bench.py"):
        name, rest = main.split(words)
        seen.add(name)
        if "--help" not in words:
            main.parser(name).parse_args(rest)
    assert seen == set(main.COMMANDS)
    for module, grammar, least in (
        ("benchmarks.memory", memory.parser, 3), ("benchmarks.hours", hours.parser, 1),
        ("bench.worlds.natural.judges.train", train.parser, 4), ("bench.worlds.pocket.recipe.oracle", oracle.parser, 3),
    ):  # fmt: skip
        found = commands(text, f"python -m {module}")
        assert len(found) >= least
        for words in found:
            grammar().parse_args(words)


def test_documents_name_no_command_of_earlier_releases() -> None:
    for file in (*DOCUMENTS, *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "leaderboards").rglob("README.md")):
        text = file.read_text()
        assert "bench.commands" not in text, file.name
        assert not [flag for flag in arguments.REPLACED if re.search(rf"{flag}(?![\w-])", text)], file.name


def test_the_run_file_of_the_guide_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "command-line.md").read_text(), re.DOTALL)
    (tmp_path / "run.yaml").write_text(text)
    args = arguments.parse(main.parser(), ["--config", str(tmp_path / "run.yaml"), "--no-quick"])
    assert arguments.run_config(args) == RunConfig(
        methods=("mimmu", "esd*"), seeds=(0, 1), metrics=("ua", "nra", "pid_*"), out=Path("trial"),
        overrides={"mimmu": {"lr": "1e-4"}, "protocol": {"guidance_scale": "3"}},
        sweep={"salun": {"epochs": ("1", "2")}},
    )  # fmt: skip
    assert arguments.spread(args).workers == 2


def documented(section: int) -> dict[str, tuple[str, str]]:
    """Column -> unit and direction, in order, as docs/leaderboard.md has them in one of its tables."""
    text = (ROOT / "docs" / "leaderboard.md").read_text().split("\n## ")[section]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| `")]
    return {name: (unit, better) for names, unit, better in rows for name in re.findall(r"`([\w@]+)`", names)}


def test_every_column_of_the_files_is_documented_in_order() -> None:
    names = METRICS.names()
    means = {name: 0.5 for name in names if METRICS.get(name).each}
    distances = {"text": 0.0, "attributes": 0.0}
    along = CurvePoint(1.0, scores(dict.fromkeys((n for n in names if METRICS.get(n).along), 0.5)))
    result = cell_result(
        "pretrained",
        "t",
        scores=scores(dict.fromkeys(names, 0.5)),
        concepts=(concept("t", "forget", 0.5, distances=distances, figures=means),),
        curve=(along,),
        warnings=("a warning",),
        degenerate=0.5,
        differences={"unet": {"given": 1, "changed": 1, "total": 2, "norm": 0.5}},
    )
    frames = [
        tables.board_frame([result], names, "full"),
        tables.cells_frame([result], names),
        tables.concepts_frame([result], names),
        curve.frame([result], names),
    ]
    for section, frame in enumerate(frames, start=1):
        assert list(documented(section)) == frame.columns.tolist()


def boards() -> dict[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """Board, cells and concepts of each suite that has columns of its own, and of a plain one and a sweep."""
    forgotten = [{"a": 1.0}, {"a": 1.0, "b": 1.0}]
    probes = [requested.finetuned("oracle", "a", kind, [0.0, 1.0]) for kind in ("unrelated, full", "5 pictures")]
    plain = requested.result("pretrained", "a", ["a"], concepts=(concept("a", "forget", 0.0, figures=requested.DRIFT),))
    every = {
        "plain": [plain],
        "multi": [requested.result("pretrained", "a + b", ["a", "b"])],
        "sequential": requested.sequence("pretrained", forgotten),
        "resurgence": probes,
        "sweep": [requested.variant("a", {"lr": 1}, {"lr": 1})],
    }
    names = requested.NAMES
    return {
        suite: (
            tables.board_frame(rows, names, "full"),
            tables.cells_frame(rows, names),
            tables.concepts_frame(rows, names),
        )
        for suite, rows in every.items()
    }


def test_the_columns_that_suites_add_are_documented_in_order() -> None:
    found = boards()
    plain = found["plain"]

    def added(suite: str, table: int) -> list[str]:
        return [name for name in found[suite][table] if name not in plain[table]]

    assert list(documented(5)) == added("multi", 0)
    assert ["way", *documented(6)] == added("sequential", 0)  # it forgets several, too
    assert list(documented(7)) == added("resurgence", 0)
    cells = [name for suite in ("sequential", "resurgence", "sweep") for name in added(suite, 1)]
    assert list(documented(8)) == [*cells, *added("sequential", 2)]
    assert added("multi", 1) == ["k", "way"]
    assert found["sequential"][1].columns.tolist()[4:7] == ["status", "k", "way"]
    concepts = found["sequential"][2].columns.tolist()
    assert concepts[concepts.index("role") + 1] == "since"
    assert list(documented(9)) == relearning.frame([]).columns.tolist()
    for section, suite in enumerate(("multi", "sequential", "resurgence"), start=5):
        names = documented(section)
        own = [one for one in aggregates.described(list(found[suite][0])) if one.name in names]
        assert len(own) >= 4
        for one in own:
            columns = [name for name in names if re.fullmatch(rf"{one.name}(_lo|_hi|_n)?", name)]
            assert len(columns) >= 3
            assert {names[name] for name in columns} == {(one.unit, one.arrow)}


def test_units_and_directions_are_documented_as_they_are() -> None:
    for section in (1, 2):
        found = documented(section)
        for metric in map(METRICS.get, METRICS.names()):
            columns = [c for c in found if re.fullmatch(rf"{metric.name}(_drop)?(_lo|_hi|_n)?", c)]
            assert {found[column] for column in columns} == {(metric.unit, metric.column.arrow)}
        for cost in COSTS:
            assert found[cost.name] == (cost.unit, cost.column.arrow)
