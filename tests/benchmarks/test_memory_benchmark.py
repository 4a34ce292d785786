"""What the memory benchmark counts and measures, on networks too small for the figures to mean anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.backbones import pipeline
from benchmarks import accounting, memory, one_step
from benchmarks.one_step import Load

SMALL = Load(size=64, batch=2, images=2)


def estimates(folder: Path, names: Sequence[str]) -> None:
    """Each method's estimate has what no activation can be blamed for: weights, originals, gradients, moments."""
    networks = memory.contentless(str(folder))[1].now
    model = pipeline.load(folder, torch.device("cpu"), "fp32")
    for name in names:
        trains = one_step.method(name, SMALL).trains
        count = sum(p.numel() for n, p in model.unet.named_parameters() if trains(n))
        peak = memory.estimate(str(folder), name, SMALL)
        assert peak.trained == count
        assert peak.allocated > networks + 4 * 4 * count > 0


@pytest.mark.huge
def test_estimate_needs_no_content(pipeline_folder: Path) -> None:
    estimates(pipeline_folder, ["salun"])


@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_estimate_matches_real_tensors(pipeline_folder: Path, checkpointing: bool) -> None:
    load = dataclasses.replace(SMALL, gradient_checkpointing=checkpointing)
    model = pipeline.load(pipeline_folder, torch.device("cpu"), "bf16")
    model.casts_weights = True  # as on CUDA
    one_step.fit_to(model, load, fused=True)
    live = accounting.Live(torch.Tensor)
    for network in (model.unet, model.vae, model.pipeline.text_encoder):
        live.hold(network.parameters())
    with accounting.counted(live):
        one_step.train(model, "mimmu", load, one_step.real_optimizer)
    estimated = memory.estimate(str(pipeline_folder), "mimmu", load).allocated
    assert estimated == pytest.approx(live.peak, rel=0.05)  # noise and timesteps have content in both


@pytest.mark.slow
def test_switches_save_memory(pipeline_folder: Path) -> None:
    def peak(name: str = "mimmu", **changes: object) -> int:
        load = dataclasses.replace(Load(size=128, batch=4, images=2), **changes)  # type: ignore[arg-type]
        return memory.estimate(str(pipeline_folder), name, load).allocated

    plain = peak()
    assert peak(gradient_checkpointing=True) < 0.7 * plain
    assert peak(batch=1) < 0.5 * plain
    assert peak("esd-u", size=32, batch=1, optimizer="adam8bit") < peak("esd-u", size=32, batch=1)


def test_norms_are_fp32_under_autocast_only_while_counted() -> None:
    def kinds() -> tuple[torch.dtype, torch.dtype]:
        with torch.autocast("cpu", torch.bfloat16):
            product = torch.nn.functional.linear(torch.ones(2, 8), torch.ones(8, 8))
            return product.dtype, torch.nn.functional.layer_norm(product, (8,)).dtype

    assert kinds() == (torch.bfloat16, torch.bfloat16)
    with accounting.counted(accounting.Live()):
        assert kinds() == (torch.bfloat16, torch.float32)
    assert kinds() == (torch.bfloat16, torch.bfloat16)


def test_freed_tensors_are_not_counted() -> None:
    live = accounting.Live(torch.Tensor)
    with live:
        kept = torch.ones(1000)
        torch.ones(5000).sum()
    assert live.now == 4096
    assert live.peak >= 4096 + 20480 - 480
    del kept
    assert live.now == 0


@pytest.mark.parametrize("what", ["mimmu", memory.SAMPLING, memory.DECODING])
def test_memory_of_this_process_is_measured(pipeline_folder: Path, what: str) -> None:
    peak = memory.measure_here(str(pipeline_folder), what, SMALL)
    assert peak.allocated > 2**20
    assert (peak.trained is None) == (what != "mimmu")


def test_invalid_flags_are_refused_with_reason(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, message in (
        (["--cards"], "add --estimate"),
        (["--methods", "mimum"], "did you mean"),
        (["--backbone", "./nowhere"], "no diffusers pipeline"),
    ):
        with pytest.raises(SystemExit):
            memory.main(["--backbone", str(pipeline_folder), *wrong])
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_table_has_caption(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--backbone", str(pipeline_folder), "--methods", "mimmu", "--size", "64", "--images", "2"]
    assert memory.main([*arguments, "--batch", "1", "--estimate", "--markdown"]) == 0
    head, _, *body, _, about = capsys.readouterr().out.splitlines()
    assert head == "| what | weights trained | batch | peak GiB |"
    assert [row.split("|")[1].strip() for row in body] == ["mimmu", "(drawing)", "(decoding)"]
    assert "64 x 64 pixels, estimated from tensors for CUDA in bfloat16, not measured" in about


@pytest.mark.slow
def test_small_method_fits_every_card(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--backbone", str(pipeline_folder), "--methods", "mimmu", "--size", "64", "--estimate", "--cards"]
    assert memory.main([*arguments, "--markdown"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split("|")[-5:-1] == [" as it is "] * 4


@pytest.mark.gpu
def test_measured_peak_memory_of_mimmu_on_stable_diffusion(capsys: pytest.CaptureFixture[str]) -> None:
    name, load = "mimmu", Load(size=512, batch=4)
    found, expected = memory.measure("sd15-random", name, load), memory.estimate("sd15-random", name, load)
    with capsys.disabled():
        print(
            f"\n{name}: allocated {found.allocated / memory.GIB:.1f} GiB, reserved "
            f"{(found.reserved or 0) / memory.GIB:.1f}, estimated {expected.allocated / memory.GIB:.1f} {found.why}"
        )
    assert found.why or found.trained == expected.trained
