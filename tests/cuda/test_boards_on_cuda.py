"""Whole runs on the pretended CUDA device: every method, metric, suite and switch of a run has the CPU's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from support import pretended, tiny
from support.differences import differences
from support.driving.boards import SMALL, TRAINING, check_run, kinds, measured
from support.given_layouts import LAYOUTS
from support.pretended import CUDA

from bench.backbones import pipeline
from bench.core.config import RunConfig
from bench.core.flags import flags_of
from bench.suites import SUITES
from bench.worlds import WORLDS, World
from methods import METHODS
from metrics import METRICS, OF_CAPTIONS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plugged")]
SWITCHES = [name for name, flag in flags_of(RunConfig).items() if flag.switch and flag.identity]


def run(**changes: Any) -> RunConfig:
    usual: dict[str, Any] = {
        "methods": ("mimmu",), "suite": "smoke", "world": "tiny", "metrics": ("ua", "drift", "mi"),
        "overrides": {"protocol": SMALL, "mimmu": TRAINING},
    }  # fmt: skip
    return RunConfig(**{**usual, **changes})


@pytest.fixture
def captioned(world: World) -> str:
    """The name of a world with captions of any scenes."""
    WORLDS.add("captioned", tiny.variant(world, name="captioned", captions=("a red rose", "a blue jay", "a dog")))
    return "captioned"


@pytest.fixture
def finished(pipeline_folder: Path, tmp_path: Path) -> str:
    """A finished model, as `--models` names it."""
    whole = pipeline.read(pipeline_folder).unet.state_dict()
    some = {name: tensor * 0.5 for name, tensor in whole.items() if name.endswith("attn2.to_k.weight")}
    return f"theirs={next(iter(LAYOUTS.values()))(some, whole, tmp_path)}"


def test_every_metric_of_every_kind_of_model_has_the_figure_of_the_cpu(
    captioned: str, finished: str, tmp_path: Path
) -> None:
    """Of the untouched model, of a method that trains, with a curve, and of a finished model."""
    chosen = run(models=(finished,), world=captioned, metrics=("all", "caption_*"), curve=2)
    account, found = check_run(chosen, tmp_path, lambda plan: [c for c in plan.cells if c.method != "wrecked"])
    assert {name for cell in found.values() for name in cell["scores"]} == {*METRICS.names(), *OF_CAPTIONS}
    assert {name.partition(" ")[0] for name in found} == {"mimmu", "theirs", "pretrained"}
    assert account.launches.total() > 10_000


@pytest.mark.huge
@pytest.mark.parametrize("suite", SUITES.names())
def test_every_kind_of_cell_of_every_suite_has_the_figures_of_the_cpu(world: World, tmp_path: Path, suite: str) -> None:
    check_run(run(suite=suite, curve=2 if SUITES.get(suite).curve_reason else 0), tmp_path, kinds)


@pytest.mark.huge
def test_every_method_and_metric_has_the_golden_numbers_of_the_cpu(world: World, tmp_path: Path) -> None:
    with pretended.cuda():
        found = json.loads(json.dumps(golden.measure(tmp_path)))
    known = json.loads(golden.FILE.read_text())
    apart = [line for name in {**known, **found} for line in differences(name, known.get(name), found.get(name))]
    assert not apart, "\n".join(apart)


@pytest.mark.huge
def test_every_method_has_a_board_in_bfloat16(world: World, tmp_path: Path) -> None:
    low = {"protocol": {**SMALL, "precision": "bf16"}}
    with pretended.cuda():
        found = measured(run(methods=METHODS.names(), metrics=("all",), overrides=low, curve=2, out=tmp_path))
    assert len(found) == len(METHODS.names())


@pytest.mark.huge
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_of_a_run_has_the_figures_of_the_cpu(world: World, tmp_path: Path, switch: str) -> None:
    try:
        check_run(run(**{switch: True}), tmp_path)
    except pretended.NotDrivable as error:
        pytest.skip(str(error))


def test_compiled_network_says_that_it_needs_a_gpu(account: pretended.Account, pipeline_folder: Path) -> None:
    with pytest.raises(pretended.NotDrivable, match=r"torch\.compile"):
        pipeline.load(pipeline_folder, CUDA, compile=True)
    assert torch.cuda.is_available()
