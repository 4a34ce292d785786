"""Finished models as rows of a board, through the command line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.given_layouts import LAYOUTS

from bench import evaluate
from bench.backbones import pipeline
from bench.commands import main
from bench.worlds import World

pytestmark = pytest.mark.usefixtures("plugged")

RUN = (
    "--world", "tiny", "--suite", "finegrained", "--workers", "1", "--metrics", "ua", "--methods", "wrecked",
    "--set", "protocol.num_inference_steps=2",
)  # fmt: skip
TASKS, THIRD = ("golden retriever", "labrador retriever"), "tulip"
THREE = ("--forget", *TASKS, THIRD)


def table(folder: Path, part: str = "") -> pd.DataFrame:
    """The board of the last run in a folder, or its cells."""
    files = [file for file in folder.glob(f"*{part}.csv") if part or not file.stem.endswith(("-cells", "-concepts"))]
    return pd.read_csv(max(files, key=lambda file: file.stat().st_mtime_ns))


@pytest.fixture(scope="module")
def models(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models without two concepts: cross-attention keys that are moved, one of them more."""
    folder = tmp_path_factory.mktemp("models")
    weights = load_file(pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors")
    keys = {name: tensor for name, tensor in weights.items() if name.endswith("attn2.to_k.weight")}
    for name, factor in (("golden_retriever", 0.0), ("labrador-retriever", 0.5)):
        save_file({n: t * factor for n, t in keys.items()}, folder / f"{name}.safetensors")
    torch.save({n: t * 0.1 for n, t in keys.items()}, folder / "step-100.pt")
    return folder


@pytest.fixture(scope="module")
def finished(world: World, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board")
    assert main.main([*RUN, *THREE, f"--models=theirs={models}/{{concept}}.safetensors", "--out", str(out)]) == 0
    return out


def test_a_finished_model_is_a_row_beside_the_untouched_one(finished: Path, models: Path) -> None:
    board = table(finished).set_index("method")
    cells = table(finished, "-cells").set_index(["method", "task"])
    theirs = board.loc["theirs"]
    assert (theirs["status"], theirs["fidelity"], theirs["compensation"]) == ("ok", "given", "not known")
    assert theirs["cells"] == 2 < board.loc["pretrained", "cells"]
    assert pd.isna(theirs["seconds"])
    assert pd.isna(theirs["rank"])  # its means are over fewer tasks
    size = sum(t.numel() * 4 for t in load_file(models / "golden_retriever.safetensors").values())
    assert cells.loc[("theirs", "golden retriever"), "delta_bytes"] == size
    assert cells.loc[("theirs", "golden retriever"), "changed"].startswith("U-Net: 4 of ")
    norms = [float(cells.loc[("theirs", name), "changed"].split(" by ")[1].removesuffix(" %")) for name in TASKS]
    assert norms[0] == pytest.approx(2 * norms[1], rel=0.1)
    assert pd.isna(board.loc["pretrained", "changed"])


def test_tasks_without_a_model_are_named(finished: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*RUN, *THREE, f"--models=theirs={models}/{{concept}}.safetensors", "--out", str(finished)]
    assert main.main(["collect", *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    differs = "it differs from the backbone in U-Net: 4 of"
    assert f"theirs: a finished model, of whose training nothing is known; {differs}" in told
    assert differs in next(finished.glob("*tulip*.html")).read_text()
    assert f"theirs: there is no model for {THIRD}, so the row's means are over 2 tasks (in all 2 cells)" in told


def test_each_step_is_a_row_and_another_file_is_measured_anew(
    finished: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--forget", TASKS[0], f"--models=t@{{step}}={models}/step-{{step}}.pt", "--out", str(finished)]
    assert main.main([*RUN, *more]) == 0
    assert table(finished)["method"].tolist() == ["pretrained", "wrecked", "t@100"]
    before = table(finished, "-cells").set_index("method").loc["t@100", "changed"]
    file = models / "step-100.pt"
    torch.save({n: t * 50 for n, t in torch.load(file, weights_only=True).items()}, file)
    assert main.main([*RUN, *more]) == 0
    assert table(finished, "-cells").set_index("method").loc["t@100", "changed"] != before


def test_a_finished_model_is_exported_as_a_folder(finished: Path, models: Path, tmp_path: Path) -> None:
    words = [*RUN, *THREE, f"--models=theirs={models}/{{concept}}.safetensors", "--out", str(finished)]
    assert main.main(["export", f"theirs/{TASKS[0]}", *words, "--to", str(tmp_path / "made")]) == 0
    made = load_file(tmp_path / "made" / "unet" / "diffusion_pytorch_model.safetensors")
    given = load_file(models / "golden_retriever.safetensors")
    assert all(torch.equal(made[name], tensor) for name, tensor in given.items())


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("theirs={models}/{{concept}}.bin", "there is no model; tried"),
        ("theirs={models}/step-100.pt", "one model would stand for"),
        ("mimmu={models}/{{concept}}.safetensors", "'mimmu' is a method"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_is_computed(
    word: str, reason: str, models: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*RUN, *THREE, "--models", word.format(models=models), "--out", str(tmp_path)]) == 2
    assert reason in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / ".store").exists()


def test_a_model_that_changes_nothing_fails_its_cell(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    words = [*RUN, "--forget", TASKS[0], "--models", f"same={pipeline_folder}/unet", "--out", str(tmp_path)]
    assert main.main(words) == 1
    cells = table(tmp_path, "-cells").set_index("method")
    assert "changes nothing" in cells.loc["same", "reason"]


def test_a_training_script_measures_its_model(
    world: World, pipeline_folder: Path, tmp_path: Path, finished: Path, models: Path
) -> None:
    """A network, a pipeline and a file with the same weights have the same figures."""
    pipe = pipeline.read(pipeline_folder)
    tensors = load_file(models / "golden_retriever.safetensors")
    pipe.unet.load_state_dict(tensors, strict=False)
    compiled = SimpleNamespace(unet=torch.compile(pipe.unet))  # it is never called, so nothing is compiled
    settings = {"world": "tiny", "forget": TASKS[0], "metrics": ("ua",), "progress": False}
    settings["overrides"] = {"protocol": {"num_inference_steps": "2"}}
    boards = [evaluate(model, out=tmp_path, **settings) for model in (pipe, compiled, tensors)]
    (file,) = finished.glob("*tulip*-cells.csv")
    expected = pd.read_csv(file).set_index(["method", "task"]).loc[("theirs", TASKS[0])]
    for board in boards:
        assert board.table["method"].tolist() == ["pretrained", "wrecked", "model"]
        row = board.cells.set_index("method").loc["model"]
        assert row[["status", "ua"]].tolist() == ["ok", expected["ua"]]
        assert row["changed"].startswith(expected["changed"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "no tensors"),
        ("a path", "must be a pipeline, a U-Net or tensors by name, not str"),
        ({"x.base_layer.weight": torch.ones(1)}, "has adapters"),
        ({"x": torch.ones(1)}, "none of its 1 tensors"),
        ({"x": torch.ones(1), "epoch": 3}, "not dict, whose entry 'epoch' is int"),
        ({"x": torch.ones(1, device="meta")}, "the tensor x has no values in memory"),
    ],
)
def test_what_is_no_model_is_refused(model: object, message: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model, forget=TASKS[0], world="tiny", out=tmp_path)


def test_every_layout_is_measured_as_the_same_model(world: World, pipeline_folder: Path, tmp_path: Path) -> None:
    """Files in all layouts, a network's folder and a pipeline: all rows have the figures of one model."""
    pipe = pipeline.read(pipeline_folder)
    state = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    some = {name: tensor * 0.25 for name, tensor in state.items() if name.endswith("attn2.to_v.weight")}
    pipe.unet.load_state_dict(some, strict=False)
    paths = {"network": tmp_path / "network", "pipeline": tmp_path / "pipeline"}
    pipe.unet.save_pretrained(paths["network"])
    pipe.save_pretrained(paths["pipeline"])
    for number, write in enumerate(LAYOUTS.values()):
        folder = tmp_path / f"file{number}"
        folder.mkdir()
        paths[folder.name] = write(some, {**state, **some}, folder)
    words = [*RUN, "--forget", TASKS[0], "--out", str(tmp_path / "out"), "--models"]
    assert main.main([*words, *(f"{name}={path}" for name, path in paths.items())]) == 0
    cells = table(tmp_path / "out", "-cells").set_index("method")
    assert cells.loc[[*paths], "status"].eq("ok").all()
    assert cells.loc[[*paths], ["ua", "changed", "delta_bytes"]].drop_duplicates().shape[0] == 1
    drawn = [*(tmp_path / "out/.store/images").glob("*/tensors.safetensors")]
    assert len(drawn) == 4  # untouched, wrecked, this model, and this model as bfloat16 rounds it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": ("ua",)}, "takes no 'metric': did you mean 'metrics'"),
        ({"methods": ("mimmu",)}, "takes no 'methods'"),
        ({"forget": ()}, "forget is empty"),
        ({"name": "a=b"}, "must not contain ="),
        ({"against": "mimm"}, "unknown method 'mimm'"),
    ],
)
def test_what_is_no_setting_is_refused(
    settings: dict[str, object], message: str, world: World, tmp_path: Path, models: Path
) -> None:
    tensors = load_file(models / "golden_retriever.safetensors")
    with pytest.raises(ValueError, match=message):
        evaluate(tensors, **{"forget": TASKS[0], "world": "tiny", "out": tmp_path, **settings})  # type: ignore[arg-type]
