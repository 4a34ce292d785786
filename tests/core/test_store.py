import logging
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support import damage

from bench.core import digest
from bench.core.store import RECORD, TENSORS, Store, TensorsDiscarded

KEY = {"method": "mimmu", "config": {"lr": 1e-5}}


def test_entry_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute():
        calls.append(1)
        return {"x": torch.arange(3)}, {"seconds": 1.5}

    first = Store(tmp_path).get_or_compute("deltas", KEY, compute)
    again = Store(tmp_path).get_or_compute("deltas", {"config": {"lr": 1e-5}, "method": "mimmu"}, compute)
    assert calls == [1]
    assert again == first
    assert torch.equal(again.tensors()["x"], torch.arange(3))
    assert again.facts == {"seconds": 1.5}


def test_another_key_or_kind_is_another_entry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("deltas", KEY)
    assert store.get("deltas", {**KEY, "seed": 1}) is None
    assert store.get("images", KEY) is None


@pytest.mark.parametrize("file", [RECORD, TENSORS])
def test_damaged_entry_is_computed_again_with_a_warning(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    whole = store.put("deltas", KEY, {"x": torch.ones(4)})
    damaged = whole.path / file
    damaged.write_bytes(damaged.read_bytes()[:-3] + b"\x00!\x00")
    with caplog.at_level(logging.WARNING):
        assert store.get("deltas", KEY) is None
    assert str(whole.path) in caplog.text
    repaired = store.get_or_compute("deltas", KEY, lambda: ({"x": torch.ones(4)}, {}))
    assert repaired.content == whole.content


def test_interrupted_write_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.core.store.store.os.rename", stop)
    with pytest.raises(KeyboardInterrupt):
        store.put("deltas", KEY, {"x": torch.ones(4)})
    monkeypatch.undo()
    assert store.get("deltas", KEY) is None
    assert list(store.path("deltas", KEY).parent.iterdir()) == []


def test_second_writer_gets_the_entry_of_the_first(tmp_path: Path) -> None:
    one, two = Store(tmp_path), Store(tmp_path)
    first = one.put("deltas", KEY, {"x": torch.ones(4)}, {"by": "one"})
    second = two.put("deltas", KEY, {"x": torch.ones(4)}, {"by": "two"})
    assert second == first


def test_texts_are_written_next_to_the_record(tmp_path: Path) -> None:
    entry = Store(tmp_path).put("results", KEY, texts={"traceback.txt": "it broke"})
    assert (entry.path / "traceback.txt").read_text() == "it broke"
    assert entry.tensors() == {}


def test_a_nan_cannot_be_recorded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).put("results", KEY, facts={"ua": float("nan")})
    assert Store(tmp_path).get("results", KEY) is None


def test_digest_depends_on_name_shape_dtype_and_values() -> None:
    base = torch.arange(6, dtype=torch.float32)
    variants = [
        {"a": base},
        {"b": base},
        {"a": base.view(2, 3)},
        {"a": base.to(torch.bfloat16)},
        {"a": base + 1},
        {"a": base, "b": base},
    ]
    assert len({digest.of_tensors(v) for v in variants}) == len(variants)
    assert digest.of_tensors({"a": base.view(2, 3).T.contiguous().T}) == digest.of_tensors({"a": base.view(2, 3)})


def test_key_of_an_unsupported_type_raises() -> None:
    with pytest.raises(TypeError):
        digest.of_json({"x": object()})


def test_store_discarded_tensors_raise_with_reason(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = store.put("deltas", KEY, {"x": torch.ones(4)}, {"seconds": 2.0})
    store.discard_tensors("deltas", KEY)
    store.discard_tensors("deltas", KEY)  # nothing is left to give up
    store.discard_tensors("deltas", {"other": 1})
    thin = store.get("deltas", KEY)
    assert thin is not None
    assert (thin.content, thin.facts) == (whole.content, whole.facts)
    assert [file.name for file in whole.path.iterdir()] == [RECORD]
    with pytest.raises(TensorsDiscarded, match="no longer has its tensors"):
        thin.tensors("x")
    store.drop("deltas", KEY)
    again = store.get_or_compute("deltas", KEY, lambda: ({"x": torch.ones(4)}, {}))
    assert torch.equal(again.tensors()["x"], torch.ones(4))


def test_missing_tensors_that_were_not_discarded_are_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.put("deltas", KEY, {"x": torch.ones(4)}).path / TENSORS).unlink()
    assert store.get("deltas", KEY) is None


def test_unavailable_file_system_removes_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put("deltas", KEY, {"x": torch.ones(4)})

    def stale(path: Path) -> str:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(digest, "of_file", stale)
    with pytest.raises(OSError, match="Stale file handle"):
        store.get("deltas", KEY)
    monkeypatch.undo()
    assert store.get("deltas", KEY) is not None


def test_get_without_verify_does_not_read_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    whole = store.put("deltas", KEY, {"x": torch.ones(4)}, {"seconds": 2.0})
    monkeypatch.setattr(digest, "of_file", lambda path: pytest.fail("it read the tensors"))
    assert store.get("deltas", KEY, verify=False) == whole


def test_threads_that_compute_drop_and_discard_at_the_same_time_see_whole_entries(tmp_path: Path) -> None:
    computed = Counter[int]()

    def work(seed: int) -> None:
        store, chance = Store(tmp_path), random.Random(seed)
        for _ in range(60):
            number = chance.randrange(3)
            key, tensor = {"n": number}, torch.full((50,), float(number))

            def compute(number: int = number, tensor: torch.Tensor = tensor) -> tuple[dict, dict]:
                computed[number] += 1
                return {"x": tensor}, {"n": number}

            try:
                entry = store.get_or_compute("kind", key, compute)
                assert entry.facts == {"n": number}
                assert torch.equal(entry.tensors()["x"], tensor)
            except (TensorsDiscarded, FileNotFoundError):  # the reader computes it again
                pass
            if number:
                chance.choice([store.drop, store.discard_tensors, store.get])("kind", {"n": 1})
            store.remove_leftovers()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert computed[0] == 1
    assert computed[2] == 1
    assert damage.temporary_files(tmp_path) == []
