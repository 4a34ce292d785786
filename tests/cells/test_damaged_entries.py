"""An entry of any kind that was damaged is computed again, and the figures are those of an undamaged run."""

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import damage

from bench.cells import weights
from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.core.store import RECORD, TENSORS
from bench.plan.plan import resolve
from bench.worlds import World

# kind -> kinds that are computed from it, without which a run would not look at it again
FIGURES = ("scores", "results")
SEEN = ("judgements", "probes", "words", *FIGURES)
KINDS = {
    "latents": ("deltas", "snapshots", "images", *SEEN),
    "deltas": ("images", *SEEN),
    "snapshots": FIGURES,
    "images": SEEN,
    "judgements": FIGURES,
    "reference": FIGURES,
    "probes": FIGURES,
    "words": FIGURES,
    "scores": ("results",),
    "results": (),
}
MEASURED = ("seconds", "peak_bytes")
CHANGES = ("record", "tensors", "entry")
Change = tuple[str, str, str, int]  # kind, which part of an entry, how, where


def config(out: Path) -> RunConfig:
    tiny = {"protocol": {"images_per_concept": "1", "num_inference_steps": "2", "forget_images": "4"}}
    return RunConfig(
        ("mimmu",), "smoke", "tiny", metrics=("ua", "drift", "mi", "pid_unique"), curve=2, overrides=tiny, out=out
    )


def results(out: Path) -> list[CellResult]:
    """The results of a run, without what is measured anew each time."""
    plan = resolve(config(out))
    executor, found = Executor(plan), []
    for cell in plan.cells:
        one = executor.run(cell)
        assert one.ok, one.reason
        cost = {name: value for name, value in one.cost.items() if name not in MEASURED}
        found.append(dataclasses.replace(one, cost=cost))
    return found


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CellResult]]:
    """The store of an undamaged run and its results."""
    out = tmp_path_factory.mktemp("whole")
    with patch.object(weights.Weights, "discard"):  # snapshots keep their tensors
        return out, results(out)


def apply(store: Path, kind: str, part: str, how: str, place: int) -> Path | None:
    """Damage an entry of a kind. Returns its folder; None if the damage changes nothing."""
    found = sorted(path for path in (store / kind).iterdir())
    entry = found[place % len(found)]
    other = found[(place + 1) % len(found)]
    if part == "entry":
        damage.of_entry(entry, how, other)
        return entry
    name = TENSORS if part == "tensors" and (entry / TENSORS).exists() and (other / TENSORS).exists() else RECORD
    text, same = (entry / RECORD).read_text(), (entry / name).read_bytes() == (other / name).read_bytes()
    damage.of_file(entry / name, how, place, other / name)
    harmless = name == RECORD and damage.same_json(entry / RECORD, text)
    return None if harmless or (how == "swapped" and same) else entry


def resumed(whole: tuple[Path, list[CellResult]], changes: Sequence[Change]) -> None:
    """Damage a copy of the store, run again, and compare."""
    out, undamaged = whole
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shutil.copytree(out, folder, dirs_exist_ok=True, symlinks=True)
        told: list[str] = []
        stack.enter_context(patch.object(logging.Logger, "warning", lambda self, text, *of: told.append(text % of)))
        store = Path(folder) / ".store"
        damaged = {apply(store, *change) for change in changes}
        changed = {kind for kind, *_ in changes}
        for below in {below for kind in changed for below in KINDS[kind]} - changed:
            shutil.rmtree(store / below)
        assert results(Path(folder)) == undamaged
        for entry in damaged - {None}:
            assert sum(str(entry) in line for line in told) <= 1
        assert damage.temporary_files(store) == []
        assert results(Path(folder)) == undamaged


def _change(kind: str) -> st.SearchStrategy[Change]:
    files = st.tuples(st.just(kind), st.sampled_from(("record", "tensors")), st.sampled_from(damage.FILE))
    folders = st.tuples(st.just(kind), st.just("entry"), st.sampled_from(damage.FOLDER))
    place = st.integers(0, 2**20)
    return st.tuples(files | folders, place).map(lambda both: (*both[0], both[1]))


ONE = st.sampled_from(sorted(KINDS)).flatmap(_change)


@settings(max_examples=3)
@given(st.tuples(*map(_change, KINDS)))
def test_damage_in_every_kind_of_entry_changes_no_figure(
    whole: tuple[Path, list[CellResult]], changes: tuple[Change, ...]
) -> None:
    resumed(whole, changes)


@pytest.mark.slow
@pytest.mark.huge
@settings(max_examples=200)
@given(ONE)
def test_damage_of_one_entry_changes_no_figure(whole: tuple[Path, list[CellResult]], change: Change) -> None:
    resumed(whole, [change])
