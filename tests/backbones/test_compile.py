import functools
from pathlib import Path

import pytest
import torch
from support.towards import Make, method

from bench.backbones import pipeline
from bench.cells.artifacts import Artifacts, Context
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.training.loop import unlearn
from bench.worlds import World


@pytest.mark.slow
def test_compiled_network_trains_to_the_same_weights(
    make: Make, pipeline_folder: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # traced, guarded and swapped as ever, but run by torch itself: needs no C++ compiler
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(compile, backend="eager"))
    plain, traced = (pipeline.load(pipeline_folder, device, "fp32", compile=c) for c in (False, True))
    first, second = (unlearn(make(backbone=b), method(epochs=1)).delta for b in (plain, traced))
    assert first.keys() == second.keys()
    assert len(first) > 0
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_compile_changes_the_keys(world: World, tmp_path: Path) -> None:
    keys = []
    for compile in (False, True):
        plan = resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",), out=tmp_path, compile=compile))
        artifacts = Artifacts(Context(plan))
        keys.append((artifacts.weights.key(plan.cells[-1]), artifacts.images.key(None)))
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] != keys[1][1]
