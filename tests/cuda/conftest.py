"""The pretended CUDA device, and the tiny networks on it and on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import pretended
from support.driving.networks import Pair, loaded

from bench.worlds import World


@pytest.fixture(scope="module")
def account(world: World) -> Iterator[pretended.Account]:
    """The account of a device that the tests of a module share. The tiny world is made before, outside of the block."""
    with pretended.cuda() as kept:
        yield kept


@pytest.fixture(scope="module")
def pair(account: pretended.Account, pipeline_folder: Path) -> Pair:
    """The tiny networks on both devices, in fp32. Every method leaves them as it found them."""
    return loaded(pipeline_folder)
