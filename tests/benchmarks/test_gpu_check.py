"""The check for GPUs, without one: its parts are other programs, or few steps on the CPU."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import METHODS, Part, PartFailed


def test_machine_without_cuda_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "this machine has no CUDA device" in said.err


def test_part_that_fails_or_takes_too_long_does_not_stop_the_others() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    made = [
        Part("Broken", 20, ["-c", "print('half'); raise SystemExit('no such card')"]),
        Part("Slow", 0.5, ["-c", f"print('begun', flush=True); {child}"]),
        Part("Odd", 20, ["-c", "print('nothing')"], gpu_check.summary),
        Part("Sound", 20, ["-c", "print('| a | b |')"]),
    ]
    lines: list[str] = []
    began = time.monotonic()
    sections, failed = gpu_check.check(made, os.environ, lines.append)
    assert time.monotonic() - began < 20
    assert failed == ["Broken: exit status 1", "Slow: stopped at its limit of 0.5 s", "Odd: pytest ran no test"]
    assert "half\nno such card" in sections
    assert "begun" in sections
    assert "### Sound\n\n| a | b |" in sections
    assert [line for line in lines if line.startswith("Sound")] == ["Sound: begins, at most 20 s", "Sound: done"]
    page = gpu_check.page(False, sections, failed, 12.3)
    assert "took 12 s. Failed:\n\n- Broken: exit status 1\n- Slow" in page


def test_limits_leave_the_check_under_six_minutes(tmp_path: Path) -> None:
    assert sum(part.limit for part in gpu_check.parts(True, tmp_path)) < 6 * 60


def test_figures_agree_where_their_intervals_overlap() -> None:
    cpu = {"mimmu": {"ua": (90.0, 80.0, 95.0), "fid": (7.0, 6.5, 7.5)}}
    here = {
        "mimmu": {"ua": (97.0, 94.0, 99.0), "fid": (8.0, 7.6, 8.4)},
        "new": {"ua": (1.0,) * 3},
    }
    text = gpu_check.comparison(here, cpu, require=False)
    assert "| mimmu | ua | 97 (94..99) | 90 (80..95) | yes |" in text
    assert "| mimmu | fid | 8 (7.6..8.4) | 7 (6.5..7.5) | **no** |" in text
    assert text.endswith("1 of 2 figures have intervals that overlap with the CPU's; not: fid of mimmu.")
    with pytest.raises(PartFailed, match="1 of 2 figures differ") as raised:
        gpu_check.comparison(here, cpu, require=True)
    assert raised.value.section == text
    assert gpu_check.comparison(cpu, cpu, require=True).endswith(
        "2 of 2 figures have intervals that overlap with the CPU's."
    )
    assert gpu_check.overlap((100.0,) * 3, (100.0,) * 3)
    assert not gpu_check.overlap((100.0,) * 3, (99.0, 98.0, 99.5))


def test_committed_figures_are_of_the_methods_that_the_check_runs() -> None:
    board = gpu_check.committed()
    assert [*board] == ["pretrained", "wrecked", *METHODS]
    for method, figures in board.items():
        assert {"ua", "nra", "ora", "fid", "drift"} <= figures.keys() <= {*gpu_check.FIGURES}, method
        assert all(lo <= value <= hi for value, lo, hi in figures.values())


def test_summary_has_what_pytest_printed_last() -> None:
    with pytest.raises(PartFailed, match="no test"):
        gpu_check.summary("no tests ran in 0.01s\n")
    assert (
        gpu_check.summary("..\n2 passed, 1 skipped in 3.21s\n") == "`pytest -m gpu -n 0`: 2 passed, 1 skipped in 3.21s"
    )


@pytest.mark.parametrize(
    ("python", "torch_version", "said"),
    [
        ((3, 11), "2.11.0+cu128", []),
        ((3, 13), "3.0.1", []),
        ((3, 10), "2.9.1", ["3.10", "2.9.1"]),
        ((3, 14), "2.14", ["3.14"]),
    ],
)
def test_versions_out_of_range_are_named(python: tuple[int, int], torch_version: str, said: list[str]) -> None:
    sentences = [*gpu_check.untried(python, torch_version)]
    assert len(sentences) == len(said)
    assert all(word in sentence for word, sentence in zip(said, sentences, strict=True))


@pytest.mark.huge
def test_rehearsal_on_the_cpu_runs_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--device", "cpu"]) == 0, sys.stderr
    page = capsys.readouterr().out
    assert "its figures mean nothing" in page
    assert "No part failed." in page
    for title in ("Versions", "Tests that need CUDA", "Speed", "The pocket world on CUDA and on the CPU"):
        assert f"### {title}\n" in page
    assert "| step | training step" in page
    assert "| mimmu | ua |" in page
