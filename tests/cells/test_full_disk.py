"""A disk that fills while a run writes its store: its cells fail with the reason, and the run goes on later."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import currently_in_test_context, event, given, settings
from hypothesis import strategies as st
from support import damage
from support.short_disk import largest_file, small_disk

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.core.store import RECORD
from bench.core.store.entries import record_of
from bench.engines import Settings
from bench.engines.local import Local
from bench.plan.plan import resolve
from bench.worlds import World

SAYS = ("No space left", "File too large", "os error 28", "os error 27")


def run(out: Path) -> list[CellResult]:
    tiny = {"protocol": {"images_per_concept": "1", "num_inference_steps": "1", "forget_images": "4"}}
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", metrics=("ua",), curve=2, overrides=tiny, out=out))
    found = dict(Local(Settings(1)).run(Executor(plan), lambda status: None))
    return [found[index] for index in sorted(found)]


def figures(results: list[CellResult]) -> list[object]:
    return [(one.scores, one.concepts, one.curve, one.data) for one in results]


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], int, int]:
    """The figures of a run with enough space, the bytes of its largest file, and those of all its files."""
    out = tmp_path_factory.mktemp("whole")
    results = run(out)
    assert all(one.ok for one in results)
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return figures(results), max(sizes), sum(sizes)


def short_of_space(out: Path) -> None:
    """Run while space is short, and look at what is left."""
    results = run(out)
    if currently_in_test_context():
        event(f"{sum(one.ok for one in results)} of {len(results)} cells finished")
    for one in results:
        assert one.ok or any(text in one.reason for text in SAYS), one.reason
        assert one.ok or one.retry
    store = out / ".store"
    assert damage.temporary_files(out) == []
    for entry in (path for kind in store.glob("[!.]*") for path in kind.iterdir() if path.is_dir()):
        assert (entry / RECORD).exists()
        assert record_of(entry)["facts"] is not None


def goes_on_after_small_files(whole: tuple[list[object], int, int], share: float) -> None:
    undisturbed, largest, _ = whole
    with tempfile.TemporaryDirectory() as folder:
        with largest_file(int(share * largest)):
            short_of_space(Path(folder))
        assert figures(run(Path(folder))) == undisturbed


def goes_on_after_a_small_disk(whole: tuple[list[object], int, int], share: float) -> None:
    undisturbed, _, total = whole
    with tempfile.TemporaryDirectory() as folder, small_disk(folder):
        grow = ["mount", "-o", f"remount,size={int(share * total / 1024) + 4}k", folder]
        subprocess.run(grow, check=True)
        short_of_space(Path(folder))
        subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
        assert figures(run(Path(folder))) == undisturbed


def test_run_goes_on_where_a_file_became_too_large(whole: tuple[list[object], int, int]) -> None:
    goes_on_after_small_files(whole, 0.5)


def test_run_goes_on_where_the_disk_was_full(whole: tuple[list[object], int, int]) -> None:
    goes_on_after_a_small_disk(whole, 0.4)


@pytest.mark.slow
@pytest.mark.huge
@settings(max_examples=40)
@given(share=st.floats(0, 1))
def test_run_goes_on_wherever_a_file_became_too_large(whole: tuple[list[object], int, int], share: float) -> None:
    goes_on_after_small_files(whole, share)


@pytest.mark.slow
@pytest.mark.huge
@settings(max_examples=40)
@given(share=st.floats(0, 1.2))
def test_run_goes_on_wherever_the_disk_was_full(whole: tuple[list[object], int, int], share: float) -> None:
    goes_on_after_a_small_disk(whole, share)
