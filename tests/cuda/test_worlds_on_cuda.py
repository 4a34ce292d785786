"""Every world on the pretended CUDA device: its judges see on it what they see on the CPU, and its tests run on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import pretended
from support.driving.judging import check_judges

from bench.core.config import OWN
from bench.worlds import WORLDS, World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_judges_of_the_tiny_world_see_what_they_see_on_the_cpu(account: pretended.Account, world: World) -> None:
    check_judges(world)


def test_judges_of_the_pocket_world_see_what_they_see_on_the_cpu(account: pretended.Account) -> None:
    check_judges(WORLDS.get("pocket"))


@pytest.mark.huge
@pytest.mark.parametrize("name", [*(n for n in WORLDS.names() if n != "tiny"), OWN])
def test_every_world_runs_on_the_device(name: str) -> None:
    """A test of the folder `tests/worlds/NAME` with the marker `world_run` runs the world on data in miniature."""
    words = ["-n", "0", "-q", "-m", "world_run", "--pretended-cuda", f"tests/worlds/{name}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
