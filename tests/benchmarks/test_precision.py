"""The benchmark of precisions, on a network too small for its figures to mean anything."""

from pathlib import Path

import pytest
import torch

from benchmarks import precision
from benchmarks.tf32 import Tf32


def test_images_of_bfloat16_are_near_those_of_float32(
    pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert precision.main(["--backbone", str(pipeline_folder), "--images", "2"]) == 0
    _, _, *body = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert [row[0] for row in body] == list(precision.WAYS)
    assert body[0][1:] == ["0.00000", "0.00"]
    assert 0 < float(body[1][1]) < 0.2
    assert 0 < float(body[2][1]) < 0.2


def test_the_probe_in_tf32_is_near_that_in_float32(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert precision.main(["--backbone", str(pipeline_folder), "--images", "2", "--probe"]) == 0
    _, _, *body = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    (_, exact, tf32, _), (_, *silent), _ = body
    assert float(exact) > 0
    assert float(tf32) == pytest.approx(float(exact), rel=0.05)
    assert float(silent[0]) == 0
    assert float(silent[1]) == 0


def test_tf32_rounds_what_is_multiplied_and_adds_up_in_float32() -> None:
    a, b = torch.tensor([[1 + 2.0**-11 + 2.0**-20]]), torch.tensor([[1.0]])
    with Tf32():
        assert (a @ b).item() == 1 + 2.0**-10
        assert (a + b).item() == (a.item() + 1)
        assert torch.baddbmm(a[None], b[None], b[None]).item() == a.item() + 1
    assert (a @ b).item() == a.item()
