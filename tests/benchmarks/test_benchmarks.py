"""The benchmarks measure what they say, on networks too small for the figures to mean anything."""

import itertools
from pathlib import Path

import pytest
import torch

from bench.worlds import World
from benchmarks import rows, runs, throughput
from benchmarks.one_step import stepping_methods
from benchmarks.timing import Line, by_turns, ratios


@pytest.fixture(scope="module")
def setting(world: World) -> rows.Setting:
    return rows.Setting(world, rounds=1, steps=1, images=2)


@pytest.mark.parametrize("name", ["step", "sampling", "batching", "attention", "evaluating"])
def test_both_sides_of_ratio_run(setting: rows.Setting, name: str) -> None:
    lines = throughput.measure(setting, [name], lambda said: None)
    assert {line.row for line in lines} == {name}
    assert all(len(line.values) == 1 and 0 < line.value < float("inf") for line in lines)
    assert all(not p.requires_grad for p in setting.backbone.unet.parameters()), "the networks were not left as found"


@pytest.mark.parametrize("side", ["harness_step", "sampling"])
def test_clock_waits_for_the_device_at_both_ends_of_each_side(
    setting: rows.Setting, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    waits: list[None] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(None))
    getattr(rows, side)(setting)
    assert len(waits) == 2 * 2 * 2  # a warm-up and a round of two sides, each with two readings


def test_only_one_module_reads_the_clock_of_what_computes_here() -> None:
    folder = Path(rows.__file__).parent
    readers = {file.name for file in folder.glob("*.py") if "time.perf_counter()" in file.read_text()}
    assert readers == {"timing.py", "throughput.py", "runs.py", "executors.py"}  # the others time whole processes


def test_by_turns_alternates_in_abba_order() -> None:
    order: list[str] = []
    clock = itertools.count(1)

    def side(name: str) -> float:
        order.append(name)
        return float(next(clock))

    a, b = by_turns(lambda: side("a"), lambda: side("b"), rounds=2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert ratios(a, b) == (3 / 4, 6 / 5)


@pytest.mark.huge
def test_memory_of_each_method_has_a_line(setting: rows.Setting) -> None:
    lines = runs.peaks(setting)
    assert [line.what for line in lines] == [*(f"peak of {n}" for n in stepping_methods()), "peak of (drawing)"]
    assert all(0 < line.value < 64 and line.unit == "GiB" for line in lines)


def test_line_has_median_spread_and_goal() -> None:
    ratio = Line("step", "bare / harness", (0.9, 1.0, 0.8), goal=0.95)
    assert ratio.texts() == ("step", "bare / harness", "0.90 x (0.80..1.00)", ">= 0.95 x missed", "")
    assert Line("start", "first step", (7.0,), "s", 8, at_most=True, note="n").texts()[2:] == ("7.00 s", "<= 8 s", "n")
    assert throughput.markdown([ratio], "2 cores").splitlines()[2:] == [
        "| step | bare / harness | 0.90 x (0.80..1.00) | >= 0.95 x missed |  |", "", "2 cores"
    ]  # fmt: skip
