"""Oracles as any world may have them: found, read, put in; and the control that stands for them on a board."""

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from support.tiny import variant

from bench.backbones.pipeline import TEXT, Backbone
from bench.plan import oracle
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World, WorldUnavailable
from methods import CONTROLS, METHODS, ORACLE


def test_a_world_says_which_oracles_it_has_and_where(world: World, tmp_path: Path) -> None:
    target, other = world.concepts[:2]
    assert oracle.find(world, target) is None
    assert oracle.hint(world) == "the world 'tiny' has no oracle, a model retrained without a concept"
    having = variant(
        world, oracle_concepts=(target,), oracle=lambda concept: tmp_path / "o", oracle_hint="`make oracles`"
    )
    assert oracle.find(having, target) == tmp_path / "o"
    assert oracle.find(having, other) is None
    assert oracle.hint(having) == f"the world 'tiny' has oracles of {target}: `make oracles`"


def test_its_file_replaces_both_networks_and_nothing_stays(model: Backbone, tmp_path: Path) -> None:
    networks = {"": model.unet, TEXT: model.pipeline.text_encoder}

    def state() -> dict[str, torch.Tensor]:
        return {p + n: t.clone() for p, network in networks.items() for n, t in network.state_dict().items()}

    before, said = state(), model.embed(["a dog"])
    other = {n: (t + torch.randn(t.shape)).half() if t.is_floating_point() else t for n, t in before.items()}
    save_file({n: t.contiguous() for n, t in other.items()}, tmp_path / "o.safetensors")
    read = oracle.tensors(tmp_path / "o.safetensors")
    assert {t.dtype for t in read.values()} == {torch.float32}
    with model.weights(read):
        assert all(torch.equal(t, other[n].float()) for n, t in state().items())
        assert not torch.equal(model.embed(["a dog"]), said)
    assert all(torch.equal(t, before[n]) for n, t in state().items())
    assert torch.equal(model.embed(["a dog"]), said)


def test_a_compressed_file_is_the_same(tmp_path: Path) -> None:
    stored = {"a": torch.arange(4, dtype=torch.bfloat16)}
    (tmp_path / "o.safetensors").write_bytes(save(stored))
    (tmp_path / "o.safetensors.xz").write_bytes(lzma.compress(save(stored)))
    for name in ("o.safetensors", "o.safetensors.xz"):
        read = oracle.tensors(tmp_path / name)["a"]
        assert read.dtype == torch.float32
        assert read.tolist() == [0, 1, 2, 3]


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.safetensors").write_bytes(b"no header")
    (tmp_path / "plain.xz").write_bytes(b"no header")
    (tmp_path / "short.xz").write_bytes(lzma.compress(save({"a": torch.arange(4.0)}))[:-9])
    (tmp_path / "text.xz").write_bytes(lzma.compress(b"no header"))
    for name in ("o.safetensors", "nowhere.safetensors", "plain.xz", "short.xz", "text.xz"):
        with pytest.raises(WorldUnavailable, match=f"{name} can't be read as an oracle's weights"):
            oracle.tensors(tmp_path / name)


def test_the_method_must_be_asked_for_and_be_given_its_weights(harness: Callable[[int], Harness]) -> None:
    assert ORACLE in METHODS
    assert ORACLE not in (*METHODS.names(), *CONTROLS)
    kind = METHODS.get(ORACLE)
    assert (kind.fidelity, bool(kind.about), bool(kind.source)) == ("control", True, True)
    workplace = harness(0)
    with pytest.raises(RuntimeError, match=f"oracle of {workplace.task.forget[0]} is not trained by the harness"):
        unlearn(workplace, kind(kind.Config()))
