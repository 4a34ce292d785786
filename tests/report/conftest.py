"""Fixtures that tests of reports share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.boards import only
from support.exhibition import hold

from bench.worlds import World


@pytest.fixture(scope="session")
def exhibition(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one run, with its tables and its store beside it. Tests change a copy of the folder."""
    return hold(tmp_path_factory.mktemp("exhibition"))


@pytest.fixture(scope="module")
def copied(exhibition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module's own copy of that report."""
    return only(shutil.copytree(exhibition.parent, tmp_path_factory.mktemp("copied") / "out"), ".html")
