from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._dynamo
from support import workplace
from support.compilation import Backend
from support.towards import Make, method

from bench.backbones import pipeline, sampler
from bench.cells.artifacts import Artifacts, Context
from bench.core.config import Protocol, RunConfig
from bench.plan.plan import resolve
from bench.training.loop import unlearn
from bench.worlds import World
from benchmarks.one_step import stepping_methods


class Toy(torch.nn.Module):
    """Two operations, so that it is compiled in no time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1


def test_every_shape_is_compiled_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, toy = Backend(), Toy()
    backend.install(monkeypatch)
    other = Toy()
    other.compile(dynamic=False)
    for size in range(2, 12):
        other(torch.ones(size))
    assert backend.runs < 10  # the limit of torch, which this module has reached
    backend.compiled.clear()
    pipeline.compile_each_shape(toy)
    before = backend.runs
    for size in (*range(1, 15), *range(1, 15)):
        assert torch.equal(toy(torch.ones(size)), torch.full((size,), 3.0))
    assert backend.runs - before == 28
    assert backend.compiled == [False] * 14


def test_a_call_that_reaches_the_limit_fails_and_does_not_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pipeline.COMPILATION, "cache_size_limit", 2)
    backend, toy = Backend(), Toy()
    backend.install(monkeypatch)
    pipeline.compile_each_shape(toy)
    toy(torch.ones(2))
    toy(torch.ones(3))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        toy(torch.ones(4))
    toy(torch.ones(3))
    assert backend.runs == 3


def test_compilation_that_is_switched_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said = pytest.raises(RuntimeError, match="unset TORCHDYNAMO_DISABLE and TORCH_COMPILE_DISABLE")
    with torch._dynamo.config.patch(disable=True), said:  # TORCH_COMPILE_DISABLE
        pipeline.compile_each_shape(Toy())
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    with said:
        pipeline.compile_each_shape(Toy())


@pytest.mark.slow
def test_compiled_network_trains_to_the_same_weights(
    make: Make, pipeline_folder: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    backend.install(monkeypatch)
    plain, traced = (pipeline.load(pipeline_folder, device, "fp32", compile=c) for c in (False, True))
    harness = make(backbone=traced)
    first, second = unlearn(make(backbone=plain), method(epochs=1)).delta, unlearn(harness, method(epochs=1)).delta
    assert first.keys() == second.keys()
    assert len(first) > 0
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert backend.runs == harness.meter.student_forwards + harness.meter.teacher_forwards
    assert backend.compiled == [False, False]  # the student's and the teacher's


@pytest.mark.huge
def test_every_forward_of_every_method_runs_compiled_whatever_ran_before(
    world: World, pipeline_folder: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend(marks=True)
    backend.install(monkeypatch)
    specs = sampler.image_specs(["a dog", "a tulip"], 5)
    protocol = Protocol(num_inference_steps=2)

    def results(names: list[str]) -> dict[str, torch.Tensor]:
        """What each method changes, in batches of 3, 3 and 2; "images" are drawn by the untouched model."""
        model, found = pipeline.load(pipeline_folder, device, "fp32", compile=True), dict[str, torch.Tensor]()
        make = workplace.harnesses(world, model)
        for name in names:
            before = backend.runs
            if name == "images":
                found[name] = sampler.sample(model, specs, protocol, 0, 3, as_images=False)
                assert backend.runs - before == 2 * protocol.num_inference_steps
                continue
            harness = make(0)
            delta = unlearn(harness, workplace.small(name, batch_size=3)).delta
            assert backend.runs - before == harness.meter.student_forwards + harness.meter.teacher_forwards, name
            found |= {f"{name}: {tensor}": value for tensor, value in delta.items()}
        return found

    names = ["images", *stepping_methods()]
    first, second = results(names), results(names[::-1])
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(backend.compiled)


def test_compile_changes_the_keys(world: World, tmp_path: Path) -> None:
    keys = []
    for compile in (False, True):
        plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path, compile=compile))
        artifacts = Artifacts(Context(plan))
        keys.append((artifacts.weights.key(plan.cells[-1]), artifacts.images.key(None)))
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] != keys[1][1]
