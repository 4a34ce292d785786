"""Files that are not what was written: each is found, said in one line, and made again."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import damage

from bench.core.checkpoint import Checkpoint
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.core.store import RECORD, TENSORS, Store
from bench.engines.base import WorkOutcome
from bench.engines.run_folder import RunFolder

PLACES = st.integers(0, 2**20)
FACTS = {"score": {"value": 0.8125, "n": 16}, "each": {"golden retriever": 0.5}, "taken": True}
TENSOR = {"a": torch.arange(40.0), "b": torch.ones(3, dtype=torch.uint8)}


@contextmanager
def warnings() -> Iterator[list[str]]:
    """The lines that are logged as warnings within the block."""
    told: list[str] = []
    with patch.object(logging.Logger, "warning", lambda self, text, *given: told.append(text % given)):
        yield told


def entry(store: Store, number: int, tensors: bool = True) -> Path:
    made = store.put("kind", {"n": number}, {**TENSOR, "n": torch.tensor(number)} if tensors else None, FACTS)
    return made.path


@settings(max_examples=100)
@given(st.sampled_from((RECORD, TENSORS)), st.sampled_from(damage.FILE), PLACES, st.booleans())
def test_damaged_file_of_an_entry_is_found_and_the_entry_is_made_again(
    file: str, how: str, place: int, old: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        path, other = entry(store, 1), entry(store, 2)
        whole = store.get("kind", {"n": 1})
        text = (path / RECORD).read_text()
        damage.of_file(path / file, how, place, other / file)
        if damage.same_json(path / RECORD, text) and file == RECORD:
            return
        with warnings() as told:
            found = store.get("kind", {"n": 1})
        if found is not None:
            assert how == "unreadable"
            assert os.geteuid() == 0  # who may read everything
            return
        assert [line.count(str(path)) for line in told] == [1]
        assert "will be computed again" in told[0]
        assert "\n" not in told[0]
        again = store.get_or_compute("kind", {"n": 1}, lambda: ({**TENSOR, "n": torch.tensor(1)}, FACTS))
        assert again == whole
        assert torch.equal(again.tensors("a")["a"], TENSOR["a"])
        assert damage.temporary_files(store.root) == []


@pytest.mark.parametrize("how", damage.FOLDER)
def test_entry_that_is_no_folder_of_its_own_is_made_again(tmp_path: Path, how: str) -> None:
    store = Store(tmp_path)
    path, other = entry(store, 1, tensors=False), entry(store, 2, tensors=False)
    damage.of_entry(path, how, other)
    with warnings() as told:
        found = store.get("kind", {"n": 1})
    if how == "unreadable" and os.geteuid() == 0:
        assert found is not None
        return
    assert found is None
    assert [str(path) in line for line in told] == [True] * (how != "missing")
    assert store.get_or_compute("kind", {"n": 1}, lambda: ({}, FACTS)).facts == FACTS
    assert damage.temporary_files(tmp_path) == []


def test_put_replaces_damage_that_nobody_has_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for how in damage.FOLDER:
        damage.of_entry(entry(store, 1), how, entry(store, 2))
        assert store.put("kind", {"n": 1}, TENSOR, FACTS).facts == FACTS
        store.clear("kind")


@pytest.mark.parametrize("verify", [True, False])
def test_changed_figure_is_found_with_and_without_verifying_tensors(tmp_path: Path, verify: bool) -> None:
    store = Store(tmp_path)
    record = entry(store, 1) / RECORD
    record.write_text(record.read_text().replace("0.8125", "0.9125"))
    with warnings() as told:
        assert store.get("kind", {"n": 1}, verify) is None
    assert "does not match its digest" in told[0]


def test_record_of_an_earlier_release_has_no_digest_and_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = entry(store, 1) / RECORD
    lines = [line for line in record.read_text().splitlines() if '"check"' not in line]
    record.write_text("\n".join(lines).replace(",\n}", "\n}"))
    found = store.get("kind", {"n": 1})
    assert found is not None
    assert found.facts == FACTS


def test_damaged_entry_is_found_when_its_tensors_are_discarded_or_its_record_is_imported(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), Store(tmp_path / "other")
    path = entry(store, 1)
    entry(whole, 1)
    (path / RECORD).write_text("[]")
    store.discard_tensors("kind", {"n": 1})
    assert not store.tensors_discarded("kind", {"n": 1})
    record = whole.record("kind", {"n": 1})
    assert record is not None
    with warnings() as told:
        assert store.import_record("kind", record)
    assert len(told) == 1
    assert store.tensors_discarded("kind", {"n": 1})


@settings(max_examples=40)
@given(st.sampled_from(damage.FILE), PLACES)
def test_damaged_checkpoint_lets_the_training_start_from_the_beginning(how: str, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = Checkpoint(Path(folder) / "1.safetensors"), Checkpoint(Path(folder) / "2.safetensors")
        for number, checkpoint in enumerate((one, other)):
            checkpoint.save({**TENSOR, "n": torch.tensor(number)}, {"done": number})
        damage.of_file(one.path, how, place, other.path)
        with warnings() as told:
            found = one.load()
        if found is not None:  # a flipped bit may be in the name of a field that checkpoints need not have
            assert how in ("unreadable", "flipped")
            assert found[1] == {"done": 0}
            assert all(torch.equal(found[0][name], TENSOR[name]) for name in TENSOR)
            return
        assert len(told) == (how != "missing")
        assert not os.path.lexists(one.path)
        one.save(TENSOR, {"done": 5})
        again = one.load()
        assert again is not None
        assert again[1] == {"done": 5}
        assert damage.temporary_files(Path(folder)) == []


@settings(max_examples=40)
@given(st.sampled_from(damage.FILE), PLACES)
def test_damaged_outcome_of_a_worker_counts_as_none(how: str, place: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(RunConfig(out=Path(root)))
        outcomes = [WorkOutcome(CellResult("m", "t", n, "f", "control", "joint", "m", status="ok")) for n in (1, 2)]
        for number, outcome in enumerate(outcomes):
            folder.put(number, outcome)
        file, text = folder.path / "results" / "0.json", (folder.path / "results" / "0.json").read_text()
        damage.of_file(file, how, place, file.with_name("1.json"))
        with warnings() as told:
            news = folder.news(())
        if how == "unreadable" or damage.same_json(file, text):
            return
        assert news == {1: outcomes[1]}
        assert len(told) == (how != "missing")
        assert not folder.has(0)


def test_damaged_kind_of_machine_is_claimed_again(tmp_path: Path) -> None:
    folder, machine = RunFolder(RunConfig(out=tmp_path)), {"device": "cpu", "dtype": "x", "versions": {"torch": "2"}}
    for text in ("", "[]", "{", '{"device": "cpu"}'):
        folder.claim(machine)
        (folder.path / "machine.json").write_text(text)
        folder.claim(machine)
        assert folder.machine() == machine
    (folder.path / "results").mkdir()
    (folder.path / "results" / "Thumbs.db").touch()
    assert folder.news(()) == {}
