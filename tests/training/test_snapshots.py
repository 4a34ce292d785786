import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import workplace
from support.towards import Make

from bench.training.loop import unlearn
from bench.training.snapshots import Snapshots

Kept = list[tuple[int, dict[str, torch.Tensor]]]


def keeping(parts: int, kept: Kept) -> Snapshots:
    return Snapshots(parts, lambda part, weights, attached: kept.append((part, weights)))


@given(parts=st.integers(2, 12), steps=st.integers(1, 60))
def test_snapshots_pass_each_part_but_the_last_once_in_order(parts: int, steps: int) -> None:
    snapshots = keeping(parts, [])
    told = [(part, done) for done in range(1, steps + 1) for part in snapshots.passed(done, steps)]
    assert [part for part, _ in told] == list(range(1, parts))
    assert all((done - 1) * parts < part * steps <= done * parts for part, done in told)


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.5}], ids=["last weights", "their average"])
def test_snapshot_equals_the_result_of_a_shorter_training(make: Make, settings: dict) -> None:
    kept: Kept = []
    whole = unlearn(make(snapshots=keeping(4, kept)), workplace.small("sdd", epochs=None, steps=8, **settings))
    assert [part for part, _ in kept] == [1, 2, 3]
    for part, weights in kept:
        shorter = unlearn(make(), workplace.small("sdd", epochs=None, steps=2 * part, **settings))
        assert weights.keys() == shorter.delta.keys()
        assert all(torch.equal(tensor, shorter.delta[name]) for name, tensor in weights.items())
    assert any(not torch.equal(tensor, whole.delta[name]) for name, tensor in kept[-1][1].items())


@pytest.mark.parametrize("name", ["mimmu", "salun"])
def test_snapshots_do_not_change_the_training(make: Make, name: str) -> None:
    alone = unlearn(make(), workplace.small(name, epochs=2))
    watched = unlearn(make(snapshots=keeping(3, [])), workplace.small(name, epochs=2))
    assert alone.delta.keys() == watched.delta.keys()
    assert all(torch.equal(tensor, watched.delta[key]) for key, tensor in alone.delta.items())
    assert alone.cost["steps"] == watched.cost["steps"]
    assert alone.data_use.counts() == watched.data_use.counts()
