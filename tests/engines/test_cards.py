"""Which GPUs a run on this machine uses, and which worker process gets which of them."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from bench.core.config import RunConfig
from bench.engines import cards
from bench.engines.cards import VISIBLE, Card
from bench.engines.local import Worker


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        (None, 3, ("0", "1", "2")),
        (None, 0, ()),
        ("2,0", 2, ("2", "0")),
        (" 2, 0 ", 2, ("2", "0")),
        ("1,-1,0", 1, ("1",)),  # CUDA stops at a name that it does not know
        ("", 0, ()),
        ("0,0", 0, ()),  # CUDA refuses a list that names a GPU twice
        ("GPU-8f2a,GPU-11", 2, ("GPU-8f2a", "GPU-11")),
        ("MIG-3,MIG-4,MIG-5", 1, ("MIG-3", "MIG-4", "MIG-5")),  # CUDA shows one of them to a process
        ("MIG-3,MIG-3", 1, ("MIG-3",)),
        ("MIG-GPU-8f2a/1/0", 1, ("MIG-GPU-8f2a/1/0",)),  # as older drivers name an instance
    ],
)
def test_names_are_those_of_the_list_that_cuda_reads(listed: str | None, visible: int, expected: tuple[str]) -> None:
    assert cards.names({} if listed is None else {VISIBLE: listed}, visible) == expected


def machine(monkeypatch: pytest.MonkeyPatch, kinds: list[str], listed: str | None = None) -> None:
    """A machine with these GPUs; CUDA_VISIBLE_DEVICES is `listed`."""
    monkeypatch.delenv(VISIBLE, raising=False)
    if listed is not None:
        monkeypatch.setenv(VISIBLE, listed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(kinds))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: kinds[index])


def test_a_run_uses_the_cards_of_the_first_ones_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["A100", "T4", "A100"])
    assert cards.cards() == (Card("0", "A100"), Card("2", "A100"))
    machine(monkeypatch, ["T4", "A100"], "1,GPU-3")
    assert cards.cards() == (Card("1", "T4"),)
    machine(monkeypatch, ["A100 MIG 3g.20gb"], "MIG-1,MIG-2")
    assert cards.cards() == (Card("MIG-1", "A100 MIG 3g.20gb"), Card("MIG-2", "A100 MIG 3g.20gb"))
    machine(monkeypatch, [])
    assert cards.cards() == ()


def test_workers_take_turns_in_getting_a_card() -> None:
    two = [Card("0", "A100"), Card("GPU-3", "A100")]
    assert cards.in_turn(two, 5) == (two[0], two[1], two[0], two[1], two[0])
    assert cards.in_turn(two, 1) == (two[0],)
    assert cards.in_turn([], 3) == (None, None, None)


def test_a_worker_takes_no_card_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["A100 MIG 1g.5gb"], "MIG-1,MIG-2")
    with pytest.raises(RuntimeError, match=r"GPU MIG-2 is of another kind \(A100 MIG 1g.5gb\) than the run's \(A100"):
        Card("MIG-2", "A100 MIG 3g.20gb").take()
    Card("MIG-2", "A100 MIG 1g.5gb").take()
    assert os.environ[VISIBLE] == "MIG-2"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # CUDA does not read the variable again
    with pytest.raises(RuntimeError, match="before this worker had its GPU"):
        Card("MIG-1", "A100 MIG 1g.5gb").take()


@pytest.mark.slow
def test_a_worker_sees_its_card_alone_and_so_does_the_one_that_replaces_it() -> None:
    worker = Worker(RunConfig(world="none"), 1, Card("GPU-8f2a", "A100"))
    try:
        with pytest.raises(BrokenProcessPool):
            worker._pool.submit(os.kill, worker._pool.submit(os.getpid).result(), signal.SIGKILL).result()
        worker.bury()
        assert worker._pool.submit(os.getenv, VISIBLE).result() == "GPU-8f2a"
    finally:
        worker.dismiss()
