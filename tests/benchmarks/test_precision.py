"""The benchmark of precisions, on a network too small for its figures to mean anything."""

from pathlib import Path

import pytest

from benchmarks import precision


def test_images_of_bfloat16_are_near_those_of_float32(
    pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert precision.main(["--backbone", str(pipeline_folder), "--images", "2"]) == 0
    _, _, *body = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert [row[0] for row in body] == list(precision.WAYS)
    assert body[0][1:] == ["0.00000", "0.00"]
    assert 0 < float(body[1][1]) < 0.2
    assert 0 < float(body[2][1]) < 0.2
