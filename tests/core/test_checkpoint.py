"""Half a training on disk, and that going on from it changes nothing."""

import logging
from pathlib import Path

import pytest
import torch
from support.towards import Make, Towards, method

from bench.backbones import pipeline
from bench.cells import artifacts, weights
from bench.cells.executor import Executor
from bench.core.checkpoint import MAX_WRITE_SECONDS, Checkpoint
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from methods import METHODS, Method

SETTINGS: dict[str, dict[str, object]] = {
    "mimmu": {"epochs": 4},
    "salun": {"epochs": 4},  # a mask, retained data, anchor prompts
    "sdd": {"steps": 11, "batch_size": 2, "grad_accumulation": 3, "ema_decay": 0.9, "path_steps": 2},  # 2 steps a pass
}


class Killed(BaseException):
    """Stands for a process that ends at once."""


def small(name: str) -> Method:
    cls = METHODS.get(name)
    return cls(cls.Config(**{"lr": 1e-3, "batch_size": 4, **SETTINGS[name]}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SETTINGS)
def test_interrupted_training_ends_with_the_same_weights(
    make: Make, pipeline_folder: Path, device: torch.device, tmp_path: Path, name: str
) -> None:
    whole = unlearn(make(), small(name))
    told: list[int] = []

    def fails_at_five(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        unlearn(make(on_step=fails_at_five, checkpoint=Checkpoint(tmp_path / "c", every=0)), small(name))
    again = make(
        backbone=pipeline.load(pipeline_folder, device, precision="fp32"),
        on_step=lambda step, steps, loss: told.append(step),
        checkpoint=Checkpoint(tmp_path / "c", every=1e9),
    )
    torch.manual_seed(123)  # the global generator must not matter
    resumed = unlearn(again, small(name))
    assert told[0] == 5  # the first step after the last whole pass
    assert resumed.delta.keys() == whole.delta.keys()
    assert all(torch.equal(resumed.delta[key], whole.delta[key]) for key in whole.delta)
    counts = ("steps", "student_forwards", "teacher_forwards", "delta_bytes")
    assert [resumed.cost[key] for key in counts] == [whole.cost[key] for key in counts]
    assert resumed.data_use == whole.data_use


def test_training_continues_in_channels_last_layout(make: Make, model: pipeline.Backbone, tmp_path: Path) -> None:
    model.unet.to(memory_format=torch.channels_last)
    layouts: list[bool] = []

    class Looks(Towards):
        def after_step(self, harness: Harness) -> None:
            layouts.append(all(p.is_contiguous() for p in harness.trained.values()))

    def stops(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise Killed

    config = method(epochs=3, batch_size=8, parameters="unet").config
    whole = unlearn(make(), Looks(config)).delta
    with pytest.raises(Killed):
        unlearn(make(on_step=stops, checkpoint=Checkpoint(tmp_path / "c", every=0)), Looks(config))
    resumed = unlearn(make(checkpoint=Checkpoint(tmp_path / "c")), Looks(config)).delta
    assert not any(layouts)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_cost_counts_seconds_before_the_interruption_and_not_writing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("bench.training.accounting.time.perf_counter", lambda: now[0])
    original = Checkpoint.save

    def slow(self: Checkpoint, *args: object) -> None:
        now[0] += 1000
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoint, "save", slow)

    class Takes(Towards):
        def prepare(self, harness: Harness) -> None:
            now[0] += 10

        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            now[0] += 1
            return super().loss(harness, batch)

    def stops(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise Killed

    config = method(epochs=3, batch_size=8).config
    with pytest.raises(Killed):
        unlearn(make(on_step=stops, checkpoint=Checkpoint(tmp_path / "c", every=0)), Takes(config))
    assert unlearn(make(checkpoint=Checkpoint(tmp_path / "c")), Takes(config)).cost["seconds"] == 13


def test_method_with_its_own_state_starts_from_the_beginning(make: Make, tmp_path: Path) -> None:
    class Counts(Towards):
        resumable = False

    unlearn(make(checkpoint=Checkpoint(tmp_path / "c", every=0)), Counts(method(epochs=3).config))
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_the_first_training_is_not_used_by_the_second(make: Make, tmp_path: Path) -> None:
    class Twice(Towards):
        def edit(self, harness: Harness) -> None:
            super().edit(harness)
            super().edit(harness)

    told: list[int] = []

    def stops(step: int, steps: int, loss: float) -> None:
        told.append(step)
        if len(told) == 6:  # in the second pass of the second training
            raise Killed

    config = method(epochs=4, batch_size=8).config
    whole = unlearn(make(), Twice(config)).delta
    with pytest.raises(Killed):
        unlearn(make(on_step=stops, checkpoint=Checkpoint(tmp_path / "c", every=0)), Twice(config))
    told.clear()
    told_again = make(on_step=lambda step, *_: told.append(step), checkpoint=Checkpoint(tmp_path / "c", every=1e9))
    resumed = unlearn(told_again, Twice(config)).delta
    assert told == [1, 2, 3, 4, 2, 3, 4]
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_checkpoint_loads_the_last_saved_state_until_removed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "sub" / "c")
    assert checkpoint.load() is None
    for value in (1.0, 2.0):
        checkpoint.save({"a": torch.full((2, 3), value).t(), "state": torch.arange(5, dtype=torch.uint8)}, {"n": value})
    assert [p.name for p in checkpoint.path.parent.iterdir()] == ["c"]
    found = checkpoint.load()
    assert found is not None
    assert torch.equal(found[0]["a"], torch.full((3, 2), 2.0))
    assert torch.equal(found[0]["state"], torch.arange(5, dtype=torch.uint8))
    assert found[1] == {"n": 2.0}
    checkpoint.remove()
    assert checkpoint.load() is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_damaged_checkpoint_is_removed_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "c")
    checkpoint.save({"a": torch.ones(64)}, {"n": 1})
    whole = checkpoint.path.read_bytes()
    broken = {"cut": whole[:-9], "flipped": whole[:-9] + b"\x01" + whole[-8:], "other": b"no tensors"}[damage]
    checkpoint.path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "removed the damaged checkpoint" in caplog.text
    assert not checkpoint.path.exists()


def test_full_disk_does_not_stop_the_training(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("bench.core.checkpoint.os.replace", full)
    assert unlearn(make(checkpoint=Checkpoint(tmp_path / "c", every=0)), method()).delta
    assert "could not be written" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_slow_writes_make_the_interval_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("bench.core.checkpoint.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "c", every=60)
    now[0] += 59
    assert not checkpoint.due()
    now[0] += 1
    assert checkpoint.due()
    monkeypatch.setattr(
        "bench.core.checkpoint.save_file", lambda *args: now.__setitem__(0, now[0] + 10 * MAX_WRITE_SECONDS)
    )
    monkeypatch.setattr("bench.core.checkpoint.os.replace", lambda *args: None)
    checkpoint.save({}, {})
    now[0] += 599
    assert not checkpoint.due()
    now[0] += 1
    assert checkpoint.due()


def test_same_command_continues_a_killed_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "CHECKPOINT_SECONDS", 0.0)
    told: list[int] = []

    def watch(stop: int) -> artifacts.Report:
        def report(what: str, done: int, total: int) -> None:
            if what.startswith("unlearning"):
                told.append(done)
                if done == stop:
                    raise Killed

        return report

    def start(force: bool, stop: int = 0) -> tuple[Executor, list[int]]:
        told.clear()
        overrides = {"mimmu": {"epochs": "3"}}
        run = RunConfig(("mimmu",), "smoke", "tiny", overrides=overrides, force=force, out=tmp_path)
        plan = resolve(run)
        executor, cell = Executor(plan, watch(stop)), plan.cells[-1]
        if force:
            executor.drop_recomputed()
        executor.artifacts.weights(cell)
        return executor, list(told)

    files = tmp_path / ".store" / "checkpoints"
    for force, first in ((False, 5), (True, 1)):
        with pytest.raises(Killed):
            start(force, stop=5)
        assert len(list(files.iterdir())) == 1
        executor, steps = start(force)
        assert steps == list(range(first, 7))
        assert list(files.iterdir()) == []
        executor.artifacts.weights.drop(executor.plan.cells[-1])
