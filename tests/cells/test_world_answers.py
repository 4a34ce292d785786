"""A world that gives other answers each time, or names what does not exist, is refused before anything is drawn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import Tiny, variant

from bench.commands import main
from bench.worlds import WORLDS, World

NUMBERS = itertools.count()


def wrong(world: Tiny, name: str) -> Any:
    """A function of the world whose answer depends on how often it was asked, or does not depend on the concept."""
    if name == "all alike":
        return lambda concept, count: world.reference(world.concepts[0], count)
    if name == "prompts":
        return lambda split, concept: tuple(f"{one} {next(NUMBERS)}" for one in world.prompts(split, concept))
    return lambda concept, count: torch.randint(0, 255, (count, 3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prompts", "as before: the same prompts each time"),
        ("reference", "the first images must be the same for every number, and each time"),
        ("all alike", "concepts are the same; each concept must have its own"),
    ],
)
def test_a_world_of_wrong_answers_is_refused(
    world: World, plugged: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert isinstance(world, Tiny)
    method = "prompts" if name == "prompts" else "reference"
    WORLDS.add("other", variant(world, name="other", **{method: wrong(world, name)}))
    assert run(tmp_path) == 2
    assert message in " ".join(capsys.readouterr().out.split())


def test_a_feature_extractor_that_does_not_exist_is_refused(
    world: World, plugged: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WORLDS.add("other", variant(world, name="other", feature_extractor=lambda: "nosuch"))
    assert run(tmp_path) == 2
    assert "torch-fidelity has no feature extractor 'nosuch'" in " ".join(capsys.readouterr().out.split())


def run(out: Path) -> int:
    return main.main(["--world", "other", "--suite", "smoke", "--methods", "pretrained", "--out", str(out)])
