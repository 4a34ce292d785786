"""The same command in two folders writes the same tables, but for what is measured anew each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import child_runs
from support.tiny import Tiny, variant

from bench.commands import main
from bench.core.config import SPACINGS
from bench.suites import SUITES
from bench.worlds import WORLDS, World
from methods import CONTROLS, METHODS, ORACLE

SAMPLING = [(solver, spacing) for solver, spacings in SPACINGS.items() for spacing in spacings]
SMALL = (
    "images_per_concept=2", "curve_images=1", "forget_images=4", "retain_images=1", "num_inference_steps=2",
    "reference_per_concept=2", "finetune_steps=2", "finetune_pictures=4", "finetune_batch=2", "probe_timesteps=2",
)  # fmt: skip
SHORT = {"epochs": "1", "steps": "2", "path_steps": "2", "batch_size": "2"}
Twice = Callable[..., None]


def short(name: str) -> list[str]:
    """Settings that let a method train for two steps."""
    known = vars(METHODS.get(name).Config()) if METHODS.get(name).takes_steps() else {}
    return [f"{name}.{field}={value}" for field, value in SHORT.items() if known.get(field) is not None]


@pytest.fixture
def same_twice(world: World, plugged: None, tmp_path: Path) -> Twice:
    """Run a command in two folders, with other random states before it, and compare every table that it writes."""

    assert isinstance(world, Tiny)
    tuned = variant(world, name="tuned", tuning_concepts=world.concepts[1:2])  # the suite `search` needs such a concept
    WORLDS.add(tuned.name, tuned)

    def compare(*words: str, names: tuple[str, ...] = ("mimmu",)) -> None:
        given = [*(f"protocol.{setting}" for setting in SMALL), *(one for name in names for one in short(name))]
        tables = []
        for seed, folder in enumerate(("a", "b")):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            line = ["--world", tuned.name, "--methods", *names, "--set", *given, *words, "--workers", "1"]
            assert main.main([*line, "--out", str(tmp_path / folder)]) == 0
            tables.append(child_runs.tables(tmp_path / folder))
        first, second = tables
        assert len(first) > 1
        assert first == second

    return compare


@pytest.mark.parametrize(
    ("solver", "spacing"),
    [SAMPLING[0], *(pytest.param(*way, marks=pytest.mark.huge) for way in SAMPLING[1:])],
)
def test_each_way_of_sampling_gives_the_same_tables_twice(same_twice: Twice, solver: str, spacing: str) -> None:
    more = (f"protocol.scheduler={solver}", f"protocol.timestep_spacing={spacing}")
    same_twice("--suite", "smoke", "--metrics", "ua", "drift", "--set", *more, names=("esd-x",))


@pytest.mark.slow
def test_all_methods_and_metrics_give_the_same_tables_twice(same_twice: Twice) -> None:
    names = tuple(name for name in METHODS.names() if name not in (*CONTROLS, ORACLE))
    same_twice("--suite", "smoke", names=names)


@pytest.mark.huge
@pytest.mark.parametrize("suite", [name for name in SUITES.names() if name != "smoke"])
def test_each_suite_gives_the_same_tables_twice(same_twice: Twice, suite: str) -> None:
    same_twice("--suite", suite, "--quick", "--metrics", "ua", "nra", "drift")
