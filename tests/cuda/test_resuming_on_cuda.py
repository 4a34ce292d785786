"""A training that was interrupted on CUDA goes on in a new process, and ends with the weights of a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import pretended
from support.driving.resuming import check_resuming

from bench.training import optimizers
from bench.worlds import World

IN_CI = (("adam", True),)  # of the 8-bit optimisers `test_eight_bit` drives one
CASES = [
    pytest.param(name, before, id=f"{name}, {cell} cell", marks=[pytest.mark.huge] * ((name, before) not in IN_CI))
    for name in optimizers.NAMES
    for before, cell in ((False, "first"), (True, "second"))
]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "before"), CASES)
def test_half_a_training_goes_on_in_a_new_process(
    account: pretended.Account, pipeline_folder: Path, world: World, tmp_path: Path, optimizer: str, before: bool
) -> None:
    check_resuming(pipeline_folder, world, tmp_path / "half", optimizer, before)
