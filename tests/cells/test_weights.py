"""Weights of cells that start from other weights: requests in a row, training further, oracles."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from support.tiny import variant

from bench.board import tables
from bench.cells import train
from bench.cells.executor import Executor
from bench.cells.weights import Weights
from bench.commands import export
from bench.core.config import RunConfig
from bench.core.store import TensorsDiscarded
from bench.plan.plan import Cell, Plan, resolve
from bench.training.loop import NonFiniteLoss
from bench.worlds import WORLDS, World, WorldUnavailable

OVER = {"mimmu": {"epochs": "1", "lr": "1e-3"}, "salun": {"epochs": "1", "lr": "1e-3"},
        "protocol": {"finetune_steps": "4", "finetune_pictures": "4", "curve_images": "2"}}  # fmt: skip
METRICS = ("ua", "nra", "ora")


def executor(out: Path, suite: str, methods: tuple[str, ...] = ("mimmu",), **more: object) -> Executor:
    names = WORLDS.get("tiny").concepts
    chosen = {
        "forget": (names[0], names[6]),
        "overrides": {k: v for k, v in OVER.items() if k in (*methods, "protocol")},
        **more,
    }
    run = RunConfig(methods, suite, "tiny", metrics=METRICS, out=out, **chosen)  # type: ignore[arg-type]
    return Executor(resolve(run))


def cells(run: Executor, method: str) -> list[Cell]:
    return [cell for cell in run.plan.cells if cell.method == method]


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in a.keys() | b.keys() if name not in a or name not in b or not torch.equal(a[name], b[name])}


@pytest.fixture(scope="module")
def chained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Executor:
    return executor(tmp_path_factory.mktemp("chain"), "sequential", ("mimmu", "salun"))


def test_request_starts_from_the_weights_of_the_previous_request(chained: Executor) -> None:
    first, second = cells(chained, "mimmu")
    run = chained.artifacts.weights
    one, two = run(first).tensors(), run(second).tensors()
    assert run.before(second) == run(first)
    assert run.before(first) is None
    assert one.keys() == two.keys()
    assert differing(one, two)
    config = dataclasses.replace(second.config, lr=0.0)  # nothing learnt: what is left is what was there
    still = run(dataclasses.replace(second, config=config, task=dataclasses.replace(second.task, name="still")))
    begun = run(dataclasses.replace(first, config=config))
    assert not begun.tensors()
    assert not still.tensors()  # its first request learnt nothing either


def test_tensors_changed_by_an_earlier_request_are_kept(chained: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = cells(chained, "mimmu")
    run = chained.artifacts.weights
    before = run.before(second)
    assert before is not None
    monkeypatch.setattr(run, "before", lambda cell: before)
    frozen = dataclasses.replace(second, config=dataclasses.replace(second.config, lr=0.0))
    assert not differing(before.tensors(), run(frozen).tensors())


def test_retained_images_are_sampled_by_the_original_model(chained: Executor, tmp_path: Path) -> None:
    _, second = cells(chained, "salun")
    run = chained.artifacts.weights
    run(second)
    alone = executor(tmp_path, "sequential", ("salun",))
    kept = second.task.in_domain[0]
    key = chained.artifacts.latents.key(kept, chained.plan.protocol.retain_images)
    assert key == alone.artifacts.latents.key(kept, alone.plan.protocol.retain_images)
    known = chained.artifacts.store.get("latents", key)
    assert known is not None
    alone.artifacts.latents.of_concepts((kept,), alone.plan.protocol.retain_images)
    fresh = alone.artifacts.store.get("latents", key)
    assert fresh is not None
    assert known.content == fresh.content


def test_teacher_of_a_later_request_can_be_chosen(chained: Executor) -> None:
    _, second = cells(chained, "mimmu")
    run = chained.artifacts.weights
    before = run.before(second)
    assert before is not None
    previous = dataclasses.replace(second, config=dataclasses.replace(second.config, teacher="previous"))
    assert run.key(previous) != run.key(second)
    assert run.key(previous)["after"] != run.key(second)["after"]  # the setting holds for all requests
    assert differing(run(previous).tensors(), run(second).tensors())


def test_results_of_a_sequence_contain_the_position_of_each_cell(chained: Executor) -> None:
    first, second = (chained.run(cell) for cell in cells(chained, "mimmu"))
    assert (first.status, second.status) == ("ok", "ok")
    assert [r.step.number for r in (first, second)] == [1, 2]
    assert second.step.request == (second.forget[1],)
    assert second.step.length == 2
    assert len(second.forget) == 2
    assert {one.concept for one in second.concepts if one.role == "forget"} == set(second.forget)
    assert second.cost["steps"] == first.cost["steps"]  # its own request's alone


def test_missing_weights_of_a_sequence_are_trained_again(chained: Executor) -> None:
    first, second = cells(chained, "mimmu")
    run, store, artifacts = chained.artifacts.weights, chained.artifacts.store, chained.artifacts
    before = [run(cell).content for cell in (first, second)]
    for cell in (first, second):
        store.discard_tensors("deltas", artifacts.weights.key(cell))  # as what is taken over from another store
    with pytest.raises(TensorsDiscarded):
        run(second).tensors()
    run.drop_discarded(second)
    assert run(second).tensors()
    assert run(first).tensors()
    assert [run(cell).content for cell in (first, second)] == before
    run.drop_discarded(second)  # nothing is lacking: nothing is forgotten
    assert store.has("deltas", artifacts.weights.key(first))
    assert store.has("deltas", artifacts.weights.key(second))


@pytest.fixture(scope="module")
def probed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Executor:
    return executor(tmp_path_factory.mktemp("probe"), "resurgence", curve=2)


def test_an_unlearned_model_is_trained_further_in_every_way(probed: Executor) -> None:
    name = probed.plan.tasks[0].forget[0]
    mine = [cell for cell in cells(probed, "mimmu") if cell.task.forget == (name,)]
    assert len(mine) == 7
    found = {cell.task.band: probed.run(cell) for cell in mine}
    assert {result.status for result in found.values()} == {"ok"}, [r.reason for r in found.values()]
    contents = {band: probed.artifacts.weights(cell).content for band, cell in zip(found, mine, strict=True)}
    assert len(set(contents.values())) == len(contents)
    begun = {tuple(str(p.scores) for p in result.curve[:1]) for result in found.values()}
    assert len(begun) == 1  # every curve begins at the same unlearned model
    for result in found.values():
        assert [point.part for point in result.curve] == [0, 0.5, 1]
        assert result.probe.unlearned_task == name
        assert result.cost["steps"] == found["unrelated, full"].cost["steps"]  # of the unlearning
    assert found["10 pictures"].probe.pictures == 10


def test_force_trains_start_weights_again(chained: Executor) -> None:
    first, second = cells(chained, "mimmu")
    run = chained.artifacts.weights
    before = [run(cell).content for cell in (first, second)]
    run.drop(second)
    assert not any(run.store.get("deltas", run.key(cell)) for cell in (first, second))
    assert [run(cell).content for cell in (first, second)] == before  # to the same weights


def test_controls_are_trained_further_too(probed: Executor) -> None:
    cell = next(cell for cell in cells(probed, "pretrained") if cell.task.band == "retained, lora")
    delta = probed.artifacts.weights(cell)
    assert delta.tensors()
    assert all(".attn1." in name or ".attn2." in name for name in delta.tensors())


def test_oracle_has_a_row_for_its_targets_and_is_trained_further(
    world: World, tmp_path: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = executor(tmp_path, "resurgence")
    model = run.artifacts.context.backbone
    name = world.concepts[0]
    made = {n: t + 0.01 for n, t in model.unet.state_dict().items()}
    text_encoder = model.pipeline.text_encoder.state_dict()
    made |= {f"text_encoder.{n}": t + 0.01 for n, t in text_encoder.items() if t.is_floating_point()}
    save_file({n: t.contiguous() for n, t in made.items()}, tmp_path / "oracle.safetensors")
    known = variant(world, oracle_concepts=(name,), oracle=lambda concept: tmp_path / "oracle.safetensors")
    monkeypatch.setattr(WORLDS, "get", lambda given: known)
    run = executor(tmp_path, "resurgence", curve=2)
    mine = cells(run, "oracle")
    assert {cell.task.forget for cell in mine} == {(name,)}  # the other concept has none
    delta = run.artifacts.weights(mine[0]).tensors()
    result = run.run(mine[0])
    assert result.status == "ok", result.reason
    assert all(torch.equal(delta[n], t) for n, t in made.items() if n.startswith("text_encoder."))
    before = run.artifacts.weights.before(mine[0])
    assert before is not None
    assert not differing(before.tensors(), made)
    assert result.compensation == "trained anew without it"
    (row,) = tables.write([result], run.plan.metrics, tmp_path, "board", "full", "").board.to_dict("records")
    assert row["delta_bytes"] > 0
    assert pd.isna(row["seconds"])  # nobody counted what training it took
    assert pd.isna(row["retain_images"])
    alone = executor(tmp_path, "finegrained")
    assert [cell.task.name for cell in cells(alone, "oracle")] == [name]
    with pytest.raises(ValueError, match="no oracle for what this run forgets"):
        executor(tmp_path, "finegrained", ("oracle",), forget=(world.concepts[7],), overrides={})


@pytest.mark.slow
def test_weights_trained_further_are_discarded_after_measurement(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = executor(tmp_path, "resurgence", curve=2, forget=world.concepts[:1])
    cell = next(c for c in cells(run, "mimmu") if c.task.band == "5 pictures")
    result, weights, store = run.run(cell), run.artifacts.weights, run.artifacts.store
    assert result.status == "ok", result.reason
    entries = [weights(cell), *weights.snapshots(cell)]
    assert [entry.facts.get("taken", True) for entry in entries] == [True] * 2
    for entry in entries:
        with pytest.raises(TensorsDiscarded):
            entry.tensors()
    before = weights.before(cell)
    assert before is not None
    assert before.tensors()  # others start from it
    monkeypatch.setattr(Weights, "compute", lambda self, cell: pytest.fail("trained again for a result that is there"))
    again = executor(tmp_path, "resurgence", curve=2, forget=world.concepts[:1])
    assert again.run(cell).curve == result.curve
    with pytest.raises(ValueError, match="does not keep the weights of models that were trained further"):
        export.export(run.plan, f"mimmu/{cell.task.name}", tmp_path / "to")
    monkeypatch.undo()
    for entry in entries:  # images that depend on it are gone: it is trained once more, to the same end
        store.drop("images", run.artifacts.images.key(entry))
    wanted = {"mimmu": OVER["mimmu"], "protocol": {**OVER["protocol"], "images_per_concept": "3"}}
    other = executor(tmp_path, "resurgence", curve=2, forget=world.concepts[:1], overrides=wanted)
    assert other.run(next(c for c in other.plan.cells if c == cell)).status == "ok"
    assert [e.content for e in (other.artifacts.weights(cell), *weights.snapshots(cell))] == [
        e.content for e in entries
    ]


def test_failed_start_weights_are_not_trained_for_every_cell(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = executor(tmp_path, "resurgence", forget=world.concepts[:1])
    tried = []

    def diverges(plan: Plan, cell: Cell, *given: object) -> None:
        tried.append(cell.task.name)
        raise NonFiniteLoss("loss is nan at step 3 of 4")

    monkeypatch.setattr(train, "unlearned", diverges)
    found = [run.run(cell) for cell in cells(run, "mimmu")]
    assert tried == [world.concepts[0]]
    assert {r.status for r in found} == {"failed"}
    said = f"mimmu · {world.concepts[0]} · seed 0, from which this starts, failed: NonFiniteLoss: loss is nan"
    assert all(said in r.reason for r in found)


def test_damaged_oracle_stops_only_its_own_cells(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(concept: str) -> Path:
        raise WorldUnavailable("oracle.safetensors is damaged")

    known = variant(world, oracle_concepts=world.concepts[:1], oracle=damaged)
    monkeypatch.setattr(WORLDS, "get", lambda given: known)
    run = executor(tmp_path, "finegrained", forget=world.concepts[:1])
    assert not cells(run, "oracle")
    assert "oracle.safetensors is damaged" in caplog.text
    with pytest.raises(WorldUnavailable, match="is damaged"):
        executor(tmp_path, "finegrained", ("oracle",), forget=world.concepts[:1], overrides={})
