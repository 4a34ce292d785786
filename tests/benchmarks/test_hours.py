"""How long a board will take, counted and timed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.cells.artifacts import Artifacts, Context
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World
from benchmarks import hours, timing
from benchmarks.hours import Speed

METHODS = ("mimmu", "salun", "esd-x")


@pytest.fixture
def artifacts(world: World, tmp_path: Path) -> Artifacts:
    small = {"esd-x": {"steps": "7", "path_steps": "10", "batch_size": "2"}, "salun": {"batch_size": "4"}}
    run = RunConfig(METHODS, "finegrained", "tiny", overrides=small, out=tmp_path)  # type: ignore[arg-type]
    return Artifacts(Context(resolve(run)))


def test_counted_passes_match_formulas(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "COUNTED", 100)
    rates = hours.count(artifacts, Speed(passes=10))
    # 4 examples: the student's pass and its way back, 1 + 2, and one of the teacher; SalUn: two terms and a target
    assert rates.step["mimmu"] == pytest.approx(4 * (3 + 1) / 10)
    assert rates.step["salun"] == pytest.approx(4 * (3 + 1 + 3) / 10)
    # SalUn's mask: two predictions with gradients for each of the eight images to forget
    assert rates.preparing["salun"] == pytest.approx(8 * 6 / 10)
    assert rates.preparing["mimmu"] == pytest.approx(0, abs=1e-9)
    # ESD: 2 examples; a guided path of 0 to 9 of 10 steps, 4.5 in the mean, then teacher twice and student
    assert rates.step["esd-x"] == pytest.approx(2 * (2 * 4.5 + 2 + 3) / 10, rel=0.1)
    assert rates.drawing == pytest.approx(2 * artifacts.plan.protocol.num_inference_steps / 10)
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
    steps, batch = artifacts.plan.protocol.num_inference_steps, artifacts.plan.sample_batch
    assert rates.drawing == pytest.approx(steps * 0.5 / batch)  # a call in each step for a whole batch


def test_measured_rates_are_those_of_the_machine(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock moves only when its U-Net is called, and then as `Speed` says."""
    true, now, unet = Speed(passes=100, floor=0.05), [0.0], artifacts.context.backbone.unet

    def forward(latents: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor]:
        now[0] += true.seconds(len(latents), torch.is_grad_enabled())
        return (latents + 0 * sum(p.sum() for p in unet.parameters() if p.requires_grad),)

    monkeypatch.setattr(hours, "COUNTED", 30)
    monkeypatch.setattr(unet, "forward", forward)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    found, expected = hours.measure(artifacts), hours.count(artifacts, true)
    assert (found.speed.passes, found.speed.floor) == pytest.approx((100, 0.05))
    assert found.step == pytest.approx(expected.step)
    assert found.preparing == pytest.approx(expected.preparing, abs=1e-9)
    assert found.drawing == pytest.approx(expected.drawing)
    assert found.judging == 0


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


def test_report_has_a_row_for_each_method(world: World, tmp_path: Path) -> None:
    artifacts = Artifacts(Context(resolve(RunConfig(("mimmu",), "smoke", "tiny", out=tmp_path))))
    rates = hours.Rates(Speed(10), {"mimmu": 0.0}, {"mimmu": 1.0}, drawing=1.0, judging=0.5)
    table = hours.report(artifacts.plan, artifacts, rates, "here")
    assert "with one worker" in str(table.caption)
    assert table.row_count == 3
    assert not (artifacts.store.root / "deltas").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--world", "natural"], "--data"),
        (["--floor", "5"], "--floor 5 needs --at"),
        (["--at", "0"], "--at must be more than 0 passes a second, not 0"),
        (["--at", "100", "--floor=-1"], "--floor must be at least 0 milliseconds, not -1"),
    ],
)
def test_impossible_flags_are_refused_with_reason(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hours.main(flags) == 2
    assert said in capsys.readouterr().err
