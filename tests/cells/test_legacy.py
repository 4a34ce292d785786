"""What release 0.1 left keeps its worth: results files and stores are found under today's keys."""

from pathlib import Path

import pytest

from bench.cells import artifacts, legacy
from bench.cells.artifacts import STORE, Artifacts, Context
from bench.commands import arguments, main, results_archive
from bench.core import device
from bench.core.config import RunConfig
from bench.core.store import FORMAT, Store
from bench.plan.plan import Plan, resolve
from bench.worlds import World

OLD = Path(__file__).parents[1] / "data" / "release-0.1.results.tar.xz"
SWEEP = ("--methods", "mimmu", "--suite", "noise-ablation", "--seeds", "2", "--sweep", "mimmu.target=null,rest")
TINY = ("--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--curve", "2", "--workers", "1")


def test_old_results_file_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHE_ORACLES")
    monkeypatch.setattr(device, "multiplies_bf16", lambda device: True)  # as the machine that made the file
    plan = resolve(arguments.run_config(arguments.parse(main.parser(), [*SWEEP, "--out", str(tmp_path)])))
    assert results_archive.unpack(plan, OLD).endswith("has 30 of the 30 cells of this run")


def old_store(plan: Plan) -> dict[str, int]:
    """Put the plan's stages under the keys of release 0.1; kind -> how many."""
    context = Context(plan)
    stamps = legacy.LegacyStamps(context.machine)
    new, old = Artifacts(context), Artifacts(context.elsewhere(context.machine, stamps))
    moved = dict[str, int]()
    for kind, first, second in list(legacy.pairs(old, new)):
        moved[kind] = moved.get(kind, 0) + new.store.rename(kind, second, first)
    new.store.clear("results")
    (new.store.root / FORMAT).unlink()
    return moved


def test_old_store_is_used_without_computing_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*TINY, "--out", str(tmp_path)]) == 0
    first = (tmp_path / "smoke-tiny.csv").read_bytes()
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", curve=2, out=tmp_path))
    moved = old_store(plan)
    assert {kind for kind, count in moved.items() if count} == {
        "latents", "reference", "deltas", "snapshots", "scores", "images", "judgements", "probes", "words"
    }  # fmt: skip
    monkeypatch.setattr(artifacts.pipeline, "load", lambda *args: pytest.fail("something was computed again"))
    assert main.main([*TINY, "--out", str(tmp_path)]) == 0
    assert f"{sum(moved.values())} entries of release 0.1 in" in capsys.readouterr().out
    assert (tmp_path / "smoke-tiny.csv").read_bytes() == first
    assert legacy.adopt(plan) == {}  # all is done


def test_new_store_is_not_searched_for_old_keys(world: World, tmp_path: Path) -> None:
    assert not Store(tmp_path / STORE).may_hold_old_keys()
    Store(tmp_path / STORE).put("scores", {"a": 1})
    assert not Store(tmp_path / STORE).may_hold_old_keys()
    assert Store(tmp_path / STORE).import_record("deltas", {"key": {"code": "x"}, "facts": {}, "content": ""})
    assert Store(tmp_path / STORE).may_hold_old_keys()


def test_renamed_entry_has_its_tensors_and_facts(tmp_path: Path) -> None:
    import torch

    store = Store(tmp_path / "store")
    store.put("deltas", {"a": 1}, {"x": torch.ones(2)}, {"seconds": 3}, {"note.txt": "kept"})
    assert store.rename("deltas", {"a": 1}, {"b": 2})
    assert store.get("deltas", {"a": 1}) is None
    entry = store.get("deltas", {"b": 2})
    assert entry is not None
    assert entry.facts == {"seconds": 3}
    assert entry.tensors()["x"].tolist() == [1, 1]
    assert (entry.path / "note.txt").read_text() == "kept"
    store.put("deltas", {"a": 1})
    assert not store.rename("deltas", {"a": 1}, {"b": 2})  # one is there
    assert not store.rename("deltas", {"c": 1}, {"d": 2})  # none is there
