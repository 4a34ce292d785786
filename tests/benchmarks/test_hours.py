"""How long a board will take, counted and timed."""

from pathlib import Path

import pytest

from bench.cells.artifacts import Artifacts, Context
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World
from benchmarks import hours
from benchmarks.hours import Speed

METHODS = ("mimmu", "salun", "esd-x")


@pytest.fixture
def artifacts(world: World, tmp_path: Path) -> Artifacts:
    small = {"esd-x": {"steps": "7", "path_steps": "10", "batch_size": "2"}, "salun": {"batch_size": "4"}}
    run = RunConfig(METHODS, "finegrained", "tiny", overrides=small, out=tmp_path)  # type: ignore[arg-type]
    return Artifacts(Context(resolve(run)))


def test_counted_passes_match_formulas(artifacts: Artifacts) -> None:
    rates = hours.count(artifacts, Speed(passes=10))
    # 4 examples: the student's pass and its way back, 1 + 2, and one of the teacher; SalUn: two terms and a target
    assert rates.step["mimmu"] == pytest.approx(4 * (3 + 1) / 10)
    assert rates.step["salun"] == pytest.approx(4 * (3 + 1 + 3) / 10)
    # SalUn's mask: two predictions with gradients for each of the eight images to forget
    assert rates.preparing["salun"] == pytest.approx(8 * 6 / 10)
    assert rates.preparing["mimmu"] == pytest.approx(0, abs=1e-9)
    # ESD: 2 examples; a guided path of 0 to 9 of 10 steps, 4.5 in the mean, then teacher twice and student
    assert rates.step["esd-x"] == pytest.approx(2 * (2 * 4.5 + 2 + 3) / 10, rel=0.1)
    assert rates.drawing == pytest.approx(2 * 4 / 10)
    assert rates.judging is None


def test_calls_of_few_images_cost_the_floor(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "COUNTED", 60)
    speed = Speed(passes=1000, floor=0.5)
    assert speed.seconds(1) == speed.seconds(500) == 0.5
    assert speed.seconds(1, gradient=True) == 1.0
    assert speed.seconds(800, gradient=True) == pytest.approx(0.8 + 1.6)
    rates = hours.count(artifacts, speed)
    # mimmu: student and teacher forward, the student back; SalUn: three calls forward and two back; however many images
    assert rates.step["mimmu"] == pytest.approx(0.5 * (2 + 1))
    assert rates.step["salun"] == pytest.approx(0.5 * (3 + 2))
    # ESD: a path of 0 to 9 calls, 4.5 in the mean, then the teacher twice, and the student forward and back
    assert rates.step["esd-x"] == pytest.approx(0.5 * (4.5 + 2 + 2), rel=0.1)
    batch = artifacts.plan.sample_batch
    assert rates.drawing == pytest.approx(4 * 0.5 / batch)  # four calls for a whole batch


def test_hours_are_products_of_rates_and_amounts(artifacts: Artifacts) -> None:
    plan = artifacts.plan
    rates = hours.Rates(Speed(1), dict.fromkeys(METHODS, 36.0), dict.fromkeys(METHODS, 2.0), drawing=1.0, judging=0.5)
    found = hours.hours(plan, artifacts, rates)
    images = len(artifacts.context.specs)
    assert found["pretrained"] == (0.0, pytest.approx(images / 3600), pytest.approx(images / 7200))
    assert found["esd-x"][0] == pytest.approx((36 + 2 * 7) / 3600)
    assert found["mimmu"][0] == pytest.approx((36 + 2 * 4) / 3600)  # two epochs of two batches of eight images


def test_unlearning_counts_once_and_further_training_each_time(world: World, tmp_path: Path) -> None:
    small = {"salun": {"batch_size": "4"}, "protocol": {"finetune_steps": "10", "finetune_batch": "2"}}
    run = RunConfig(("salun",), "resurgence", "tiny", forget=world.concepts[:1], overrides=small, out=tmp_path)
    plan = resolve(run)
    assert [cell.task.name for cell in hours.first_cells(plan)] == [world.concepts[0]]
    rates = hours.Rates(Speed(4, floor=0.75), {"salun": 36.0}, {"salun": 2.0}, drawing=8.0, judging=None)
    found = hours.hours(plan, Artifacts(Context(plan)), rates)
    each = 10 * (0.75 + 2 * 2 / 4)  # a step: two images forward, for which the floor holds, and two backward
    assert found["pretrained"][0] == pytest.approx(each / 3600)
    steps = plan.steps(hours.first_cells(plan)[0])
    assert found["salun"][0] == pytest.approx((each + (36 + 2 * steps) / 7) / 3600)
    twice = resolve(RunConfig(("salun",), "multi", "tiny", forget=world.concepts[5:7], out=tmp_path))
    (cell,) = hours.first_cells(twice)
    assert hours.unlearning(twice, rates, cell) == 2 * 36 + 2 * twice.steps(cell)


def test_measured_rates_are_positive(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifacts = Artifacts(Context(resolve(RunConfig(("mimmu",), "smoke", "tiny", out=tmp_path))))
    rates = hours.measure(artifacts)
    assert 0 < rates.step["mimmu"] < 60
    assert rates.drawing > 0
    assert rates.judging is not None
    assert rates.judging > 0
    table = hours.report(artifacts.plan, artifacts, rates, "here")
    assert "with one worker" in str(table.caption)
    assert table.row_count == 3
    assert not (artifacts.store.root / "deltas").exists()
    assert hours.main(["--world", "natural"]) == 2
    assert "--data" in capsys.readouterr().err
