import dataclasses
import json
from pathlib import Path

import pytest

from bench.cells import estimate
from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import Plan, resolve
from bench.worlds import World

TINY = ("--world", "tiny", "--suite", "smoke", "--metrics", "ua")


def look(plan: Plan, *tables: Path, workers: int = 1) -> tuple[list[estimate.Ahead], str]:
    executor = Executor(plan)
    past = estimate.Past(executor.outcomes, tables)
    cells = estimate.ahead(executor.outcomes, past)
    return cells, estimate.summary(cells, past, workers)


def planned(out: Path, *methods: str, **changes: object) -> Plan:
    return resolve(RunConfig(methods, "smoke", "tiny", metrics=("ua",), out=out, **changes))  # type: ignore[arg-type]


def test_estimate_without_known_cells_is_unknown(world: World, tmp_path: Path) -> None:
    cells, said = look(planned(tmp_path, "mimmu"), tmp_path)
    assert [a.seconds for a in cells] == [0.0, 0.0, None]  # controls train nothing
    assert said == (
        "3 cells: 0 stored, 3 to do; the time is not known, because neither the store nor a table has similar cells"
    )
    # pictures: 5 concepts by 3 for each cell, and 8 to learn from for the one method that may
    assert [a.draws for a in cells] == [15, 15, 23]


def table(folder: Path, name: str, plan: Plan, seconds: float, epochs: int, method: str = "mimmu") -> None:
    config = {**dataclasses.asdict(plan.cells[-1].config), "epochs": epochs}
    text = json.dumps(config).replace('"', '""')
    # 8 pictures in batches of 4: two steps an epoch
    rows = f'oracle,ok,,,"{text}"\n{method},ok,{2 * epochs},{seconds},"{text}"\n'  # an oracle's cost is not known
    (folder / name).write_text(f"method,status,steps,seconds,config\n{rows}")


def test_estimate_uses_a_table_of_the_same_world(world: World, tmp_path: Path) -> None:
    plan = planned(tmp_path, "mimmu")
    table(tmp_path, "other-tiny-cells.csv", plan, 600.0, plan.cells[-1].config.epochs)
    cells, said = look(plan, tmp_path)
    assert [a.seconds for a in cells] == [0.0, 0.0, 600.0]
    assert "3 to do; more than 10.0 min with 1 worker(s), estimated from" in said
    assert "other-tiny-cells.csv; not included, because the time is not known: sampling 53 images" in said

    table(tmp_path, "smoke-tiny-cells.csv", plan, 60.0, 10 * plan.cells[-1].config.epochs)
    cells, said = look(plan, tmp_path)
    assert cells[-1].seconds == pytest.approx(6.0)  # trained on a tenth of the examples
    assert "smoke-tiny-cells.csv" in said
    assert "other-tiny" not in said


def test_sampling_time_follows_passes_in_training(world: World, tmp_path: Path) -> None:
    plan = planned(tmp_path, "mimmu")
    config = json.dumps(dataclasses.asdict(plan.cells[-1].config)).replace('"', '""')
    head = "method,status,steps,student_forwards,teacher_forwards,seconds,config"
    # batches of 4, 10 steps: 4 * (10 + 10 + 2 * 10) passes in 1.6 seconds, so that one takes 0.01
    (tmp_path / "smoke-tiny-cells.csv").write_text(f'{head}\nmimmu,ok,10,10,10,1.6,"{config}"\n')
    past = estimate.Past(Executor(plan).outcomes, [tmp_path])
    steps = plan.protocol.num_inference_steps
    assert past.drawing(100) == pytest.approx(100 * 0.01 * 2 * steps)
    assert past.used == {str(tmp_path / "smoke-tiny-cells.csv")}


def test_store_is_preferred_to_tables_and_stored_entries_cost_nothing(world: World, tmp_path: Path) -> None:
    assert main.main([*TINY, "--methods", "mimmu", "--out", str(tmp_path)]) == 0
    tables = tmp_path / "tables"
    tables.mkdir()
    table(tables, "smoke-tiny-cells.csv", planned(tmp_path, "mimmu"), 1e6, 2)
    assert look(planned(tmp_path, "mimmu"), tables)[1] == "3 cells: 3 stored, 0 to do"

    cells, said = look(planned(tmp_path, "mimmu", seeds=(0, 1)), tables)
    assert [a.result for a in cells] == [True, True, True, False, False, False]
    assert [a.draws for a in cells] == [0, 0, 0, 0, 0, 15]  # controls need no more, what to learn from is there
    assert cells[5].seconds == cells[2].seconds < 1e5
    assert "6 cells: 3 stored, 3 to do; about" in said
    assert f"estimated from {tmp_path / '.store'}" in said

    other = dataclasses.replace(planned(tmp_path, "mimmu"), metrics=("nra",))
    assert look(other, tables)[1] == "3 cells: 0 stored, 3 to do; nothing to train or to sample"

    curved, said = look(planned(tmp_path, "mimmu", curve=3), tables)
    assert [a.weights for a in curved] == [True, True, False]  # no weights on the way were kept: it trains once more
    assert [a.result for a in curved] == [False] * 3
    assert [a.draws for a in curved] == [0, 0, 2 * 3 * 3]  # at two checkpoints three concepts in three pictures

    forced, said = look(planned(tmp_path, "mimmu", force=True), tables)
    assert [a.result for a in forced] == [True, True, False]
    assert "1 to do; about" in said


def test_workers_do_not_split_cells_or_sequences(world: World, tmp_path: Path) -> None:
    def three(**more: object) -> list[estimate.Ahead]:
        run = RunConfig(("mimmu",), world="tiny", out=tmp_path, forget=world.concepts[:3], **more)  # type: ignore[arg-type]
        cells = [cell for cell in resolve(run).cells if cell.method == "mimmu"]
        return [estimate.Ahead(cell, False, False, False, 0, 0, 120.0) for cell in cells]

    class Known:
        used = frozenset({"here"})

        def drawing(self, count: float) -> float:
            return 0.0

    def minutes(workers: int, **more: object) -> str:
        return estimate.summary(three(**more), Known(), workers)  # type: ignore[arg-type]

    assert "about 6.0 min with 1 worker(s)" in minutes(1)
    assert "about 3.0 min" in minutes(2)
    assert "about 2.0 min" in minutes(8)
    assert "about 6.0 min" in minutes(8, suite="sequential")  # each starts from the last one's weights
    assert "about 6.0 min" in minutes(8, suite="sequential", seeds=(0, 1))
    assert "about 12.0 min" in minutes(1, suite="sequential", seeds=(0, 1))


def test_weights_trained_further_several_times_are_unlearned_once(world: World, tmp_path: Path) -> None:
    def made(suite: str, **more: object) -> Plan:
        chosen = {"forget": world.concepts[:1], "out": tmp_path / "empty", "metrics": ("ua",), **more}
        return resolve(RunConfig(("mimmu",), suite, "tiny", **chosen))  # type: ignore[arg-type]

    alone, again = made("finegrained"), made("resurgence")
    config = json.dumps(dataclasses.asdict(alone.cells[-1].config)).replace('"', '""')
    head = "method,status,steps,student_forwards,teacher_forwards,seconds,config"
    # 2 epochs of 8 pictures in batches of 4 are 4 steps: 4 * (4 + 4 + 2 * 4) passes in 6.4 seconds, a tenth each
    (tmp_path / "finegrained-tiny-cells.csv").write_text(f'{head}\nmimmu,ok,4,4,4,6.4,"{config}"\n')
    cells, _ = look(again, tmp_path)
    own = [a.seconds for a in cells if a.cell.method == "mimmu"]
    further = 0.1 * 3 * again.protocol.finetune_steps * again.protocol.finetune_batch
    assert own == pytest.approx([further + 6.4] + [further] * 6)
    assert [a.seconds for a in cells if a.cell.method == "wrecked"] == pytest.approx([further] * 7)
    twice = made("multi", forget=(*world.concepts[:1], *world.concepts[6:7]))
    (pair,) = (a for a in look(twice, tmp_path)[0] if a.cell.method == "mimmu")
    assert pair.seconds == pytest.approx(12.8)


def test_estimate_searches_the_runs_folder_then_boards_then_reference(world: World, tmp_path: Path) -> None:
    out, boards, reference = (tmp_path / name for name in ("out", "leaderboards", "leaderboards/reference"))
    plan = planned(out, "mimmu")
    epochs = plan.cells[-1].config.epochs
    for folder, seconds in ((reference, 300.0), (boards, 200.0), (out, 100.0)):
        folder.mkdir(parents=True, exist_ok=True)
        table(folder, "smoke-tiny-cells.csv", plan, seconds, epochs)
        assert look(plan, boards, reference)[0][-1].seconds == pytest.approx(seconds)


def test_the_repository_ships_the_boards_that_estimates_read() -> None:
    boards, reference = estimate.TABLES
    assert reference.parent == boards
    assert (reference / "finegrained-pocket-cells.csv").is_file()
