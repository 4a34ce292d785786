"""Cells with curves: checkpoints along a training are kept like anything else."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.cells import images as images_module
from bench.cells.artifact import ARTIFACTS
from bench.cells.artifacts import Context
from bench.cells.executor import Executor
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World

TINY = ("--world", "tiny", "--suite", "smoke", "--methods", "mimmu", "--metrics", "ua", "nra", "ora", "twin")
METRICS = ("ua", "nra", "ora", "twin")


@pytest.fixture(scope="module")
def curved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one method with four checkpoints."""
    out = tmp_path_factory.mktemp("curved")
    assert main.main([*TINY, "--curve", "4", "--out", str(out)]) == 0
    return out


def executor(out: Path, curve: int) -> Executor:
    return Executor(resolve(RunConfig(("mimmu",), "smoke", "tiny", metrics=METRICS, curve=curve, out=out)))


def test_curve_goes_from_the_original_model_to_the_result(curved: Path) -> None:
    points = pd.read_csv(curved / "smoke-tiny-curve.csv")
    assert points["method"].unique().tolist() == ["mimmu"]  # controls don't train
    assert points["part"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert points["nra_n"].tolist() == [6] * 5  # two neighbours, all three images of each: fewer than curve_images
    assert points["ua_n"].tolist() == [3] * 5
    cells = pd.read_csv(curved / "smoke-tiny-cells.csv").set_index("method")
    for name in ("ua", "nra", "twin"):
        assert points[name].iloc[0] == cells.loc["pretrained", name]
        assert points[name].iloc[-1] == cells.loc["mimmu", name]
    assert "ora" not in points
    board = pd.read_csv(curved / "smoke-tiny.csv")
    assert {"nra@ua90", "twin@ua90_lo"} <= set(board)


def test_snapshots_are_stored_and_differ(curved: Path) -> None:
    run = executor(curved, 4)
    (cell,) = (cell for cell in run.plan.cells if cell.method == "mimmu")
    taken = run.artifacts.weights.snapshots(cell)
    assert [entry.facts["taken"] for entry in taken] == [True] * 3
    assert len({entry.content for entry in taken}) == 3  # of four steps in all
    half = executor(curved, 2).artifacts.weights.snapshots(cell)  # one of two parts is two of four
    assert [entry.content for entry in half] == [taken[1].content]


def test_a_finished_curve_is_not_computed_again(curved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "backbone", property(lambda self: pytest.fail("it loaded the backbone")))
    assert main.main([*TINY, "--curve", "4", "--out", str(curved)]) == 0


def test_curve_can_be_added_to_a_complete_run(world: World, tmp_path: Path) -> None:
    former = [tmp_path / f"smoke-tiny-{name}.csv" for name in ("curve", "recovery")]
    for file in former:
        file.write_text("of a board that was here before")
    assert main.main([*TINY, "--out", str(tmp_path)]) == 0
    assert not any(file.exists() for file in former)
    plain, run = executor(tmp_path, 0), executor(tmp_path, 2)
    before = plain.outcomes.stored(plain.plan.cells[-1])
    assert before.status == "ok"
    assert run.outcomes.wants_curve(run.outcomes.stored(run.plan.cells[-1]))
    after = run.run(run.plan.cells[-1])
    assert [point.part for point in after.curve] == [0, 0.5, 1]
    assert not run.outcomes.wants_curve(after)
    same = ("scores", "concepts", "cost", "fingerprint")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_non_finite_snapshot_fails_the_cell(curved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = executor(tmp_path, 2)
    cell = run.plan.cells[-1]
    good = run.artifacts.weights(cell)
    bad = {name: torch.full_like(tensor, torch.nan) for name, tensor in good.tensors().items()}
    key = run.artifacts.snapshot.key(cell, 1, 2)
    run.artifacts.store.drop("snapshots", key)
    run.artifacts.store.put("snapshots", key, bad, {"taken": True})
    result = run.run(cell)
    assert result.status == "failed"
    assert "NaN or infinite values in" in result.reason
    assert run.outcomes.stored(cell).status == "failed"
    assert executor(tmp_path, 0).outcomes.stored(cell).status == "ok"  # the result itself is sound


def test_force_drops_every_snapshot(curved: Path) -> None:
    run = executor(curved, 4)
    forced = Executor(dataclasses.replace(run.plan, run=dataclasses.replace(run.plan.run, force=True)))
    keys = [run.artifacts.snapshot.key(run.plan.cells[-1], part, 4) for part in (1, 2, 3)]
    assert all(run.artifacts.store.get("snapshots", key) for key in keys)
    curves = len(list((curved / ".store" / "scores").iterdir()))
    forced.drop_recomputed()
    assert not any(run.artifacts.store.get("snapshots", key) for key in keys)
    assert len(list((curved / ".store" / "scores").iterdir())) == curves - len(METRICS) - 2  # accuracies and a curve


def test_large_images_are_judged_from_their_latents(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(folder: Path) -> tuple[Executor, list[dict[str, Any]]]:
        looking = ("ua", "nra", "ora", "fid", "kid", "clip", "drift", "drift_latent", "plausible", "plausible_domain")
        exact = {"protocol": {"precision": "fp32"}}
        run = RunConfig(("mimmu",), "smoke", "tiny", metrics=looking, overrides=exact, out=folder, curve=2)
        made = Executor(resolve(run))
        return made, [made.run(cell) for cell in made.plan.cells]

    _, before = whole(tmp_path / "small")
    monkeypatch.setattr(images_module, "KEPT_SIDE", 32)
    monkeypatch.setattr(images_module, "PREVIEW_SIDE", 48)
    monkeypatch.setattr(images_module, "PREVIEWS", 2)
    executor, after = whole(tmp_path / "large")
    for small, large in zip(before, after, strict=True):
        assert large.status == "ok"
        assert large.scores == small.scores
        assert large.concepts == small.concepts
        assert large.curve == small.curve
    artifacts = executor.artifacts
    entry = artifacts.images(None)
    kept = entry.tensors()
    assert kept["images"].shape == (2 * 5, 3, 48, 48)  # of five concepts two each, for people
    assert kept["shown"].tolist() == [i for i in range(15) if i % 3 < 2]
    shown = torch.cat([*artifacts.images.decoded(entry, [""] * 15)])
    assert shown.shape == (15, 3, 64, 64)
    small_copy = torch.nn.functional.interpolate(shown[kept["shown"]].float(), (48, 48), mode="area")
    assert (kept["images"].float() - small_copy).abs().max() <= 1


def test_raised_version_computes_again_only_what_follows(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries() -> dict[str, int]:
        executor = Executor(resolve(RunConfig(("pretrained",), "smoke", "tiny", metrics=("ua",), out=tmp_path)))
        for cell in executor.plan.cells:
            assert executor.run(cell).ok
        folders = [folder for folder in (tmp_path / ".store").iterdir() if not folder.name.startswith(".")]
        return {folder.name: len(list(folder.iterdir())) for folder in folders}

    before = entries()
    assert entries() == before
    monkeypatch.setattr(ARTIFACTS["images"], "version", 2)
    now = entries()
    # the images are the same, so what the judges see in them is known; the figures are computed again
    assert {kind for kind in before if now[kind] != before[kind]} == {"images", "scores", "results"}
    monkeypatch.setattr(ARTIFACTS["accuracy"], "version", 2)
    assert {kind for kind, count in entries().items() if count != now[kind]} == {"scores", "results"}
