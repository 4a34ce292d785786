"""Finished models as rows: how patterns find their files, what is refused, and the oracle, whose file the world has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.hub_server import serving
from support.tiny import variant

from bench.backbones.given import model as given
from bench.backbones.pipeline import TEXT, Backbone
from bench.core.flag_values import models_elsewhere
from bench.core.task import Finetune, Task
from bench.plan import given_models
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from methods import CONTROLS, METHODS, ORACLE

ROSE, CORGI = Task("tea rose", ("tea rose",), (), ()), Task("corgi", ("corgi",), (), ())
BOTH = Task("both", ("tea rose", "corgi"), (), ())
FURTHER = Task("tea rose, further", ("tea rose",), (), (), after=ROSE, finetune=Finetune("unrelated"))


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("weights")
    return folder


@pytest.mark.parametrize("name", ["tea rose.pt", "tea_rose.pt", "tea-rose.pt"])
def test_spaces_of_a_concept_may_be_written_in_three_ways(name: str, tmp_path: Path) -> None:
    touched(tmp_path, name, "corgi.pt")
    found = given_models.find([f"theirs={tmp_path}/{{concept}}.pt"], [ROSE, CORGI], [0, 4])
    files = {("tea rose", name), ("corgi", "corgi.pt")}
    assert found == {"theirs": {(task, seed): tmp_path / file for task, file in files for seed in (0, 4)}}


def test_two_files_that_fit_are_an_error(tmp_path: Path) -> None:
    touched(tmp_path, "tea rose.pt", "tea_rose.pt")
    with pytest.raises(ValueError, match=r"tea rose\.pt and .*tea_rose\.pt both fit"):
        given_models.find([f"theirs={tmp_path}/{{concept}}.pt"], [ROSE], [0])


def test_a_row_needs_no_model_for_every_task_but_one_at_all(tmp_path: Path) -> None:
    touched(tmp_path, "corgi/unet.pt", "notes.txt")
    found = given_models.find([f"theirs={tmp_path}/{{concept}}/unet.pt"], [ROSE, CORGI], [0])
    assert list(found["theirs"]) == [("corgi", 0)]
    with pytest.raises(
        FileNotFoundError, match=r"tried .*tea rose/unet.bin, .*tea_rose/unet.bin.* there are corgi, notes"
    ):
        given_models.find([f"theirs={tmp_path}/{{concept}}/unet.bin"], [ROSE], [0])


def test_a_task_that_trains_further_has_the_model_of_the_task_before(tmp_path: Path) -> None:
    touched(tmp_path, "tea-rose.pt")
    found = given_models.find([f"theirs={tmp_path}/{{task}}.pt"], [FURTHER], [0])
    assert found == {"theirs": {("tea rose, further", 0): tmp_path / "tea-rose.pt"}}


def test_seeds_and_steps_stand_in_paths(tmp_path: Path) -> None:
    touched(tmp_path, "0/ckpt-50.pt", "0/ckpt-200.pt", "1/ckpt-50.pt", "0/ckpt-last.pt")
    found = given_models.find([f"t@{{step}}={tmp_path}/{{seed}}/ckpt-{{step}}.pt"], [CORGI], [0, 1])
    assert list(found) == ["t@50", "t@200"]  # by number
    assert found["t@50"] == {("corgi", seed): tmp_path / str(seed) / "ckpt-50.pt" for seed in (0, 1)}
    assert found["t@200"] == {("corgi", 0): tmp_path / "0" / "ckpt-200.pt"}


def test_a_yaml_file_has_a_path_for_each_task(tmp_path: Path) -> None:
    touched(tmp_path, "a.pt", "b.pt", "both.pt")
    (tmp_path / "models.yaml").write_text("theirs:\n  tea rose: a.pt\n  both: b.pt\nothers: '{task}.pt'\n")
    found = given_models.find([str(tmp_path / "models.yaml")], [ROSE, BOTH], [0])["theirs"]
    assert found == {("tea rose", 0): tmp_path / "a.pt", ("both", 0): tmp_path / "b.pt"}


WRONG = {
    "theirs": r"takes NAME=PATTERN, or a \.yaml file",
    "=x.pt": "a model's name must be",
    "a{b}=x.pt": "a model's name must be",
    "a@{step}b={step}.pt": "a model's name must be",
    "a@{step}@{step}={step}.pt": "a model's name must be",
    " a={concept}.pt": "a model's name must be",
    "variant.yaml": "a model's name must be",
    "esd-x=x.pt": "'esd-x' is a method",
    "theirs=": "the path is empty",
    "theirs={concpet}.pt": r"\{concpet\} is unknown; did you mean 'concept'",
    "theirs={step}.pt": r"takes \{step\} in both",
    "theirs=x.pt": "one model would stand for 2 tasks",
    "nowhere.yaml": "there is no such file",
    "list.yaml": "must have NAME: PATTERN",
    "number.yaml": "'theirs' must have a path",
    "task.yaml": "this run has the tasks tea rose, corgi",
    "absent.yaml": "there is no x.pt, the model for 'corgi'",
    "broken.yaml": "is not YAML",
    "twice.yaml": "'corgi' is there twice",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_names_no_models_is_refused(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {"list": "- a", "number": "theirs: 3", "task": "theirs: {tulip: x.pt}", "absent": "theirs: {corgi: x.pt}"}
    texts |= {"variant": "mimmu:lr=1: x.pt", "twice": "theirs: {corgi: x.pt, corgi: y.pt}"}
    for name, text in {**texts, "broken": "a: ["}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=WRONG[word]):
        given_models.find([word], [ROSE, CORGI], [0])


def test_several_concepts_are_named_by_their_task_and_rows_once(tmp_path: Path) -> None:
    touched(tmp_path, "both.pt")
    assert given_models.find([f"t={tmp_path}/{{task}}.pt"], [BOTH], [0])["t"]
    with pytest.raises(ValueError, match=r"forgets 2 concepts, so \{concept\} is not one name"):
        given_models.find([f"t={tmp_path}/{{concept}}.pt"], [BOTH], [0])
    with pytest.raises(ValueError, match="the name 't' is given twice"):
        given_models.find([f"t={tmp_path}/{{task}}.pt"] * 2, [BOTH], [0])


ASK = """
import json, sys
from bench.core.task import Task
from bench.plan import given_models
tasks = [Task(name, (name,), (), ()) for name in ("tea rose", "corgi")]
def found(word):
    try:
        return {task: str(path) for (task, _), path in given_models.find([word], tasks, [0])["a"].items()}
    except FileNotFoundError as error:
        return str(error)
print(json.dumps([found(word) for word in sys.argv[1:]]))
"""


def test_models_of_the_hub(tmp_path: Path) -> None:
    touched(tmp_path / "repo", "tea_rose/config.json", "tea_rose/model.safetensors", "object/ESD/corgi.pt")
    words = (
        "some/models:{concept}",
        "some/models:object/ESD/{concept}.pt",
        "some/models:x/{concept}",
        "no/such_{concept}",
    )
    with serving({"some/models": tmp_path / "repo"}) as (endpoint, _):
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        command = [sys.executable, "-c", ASK, *(f"a={word}" for word in words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    folder, file, nothing, nowhere = json.loads(done.stdout.splitlines()[-1])
    assert list(folder) == ["tea rose"]
    assert sorted(p.name for p in Path(folder["tea rose"]).iterdir()) == ["config.json", "model.safetensors"]
    assert Path(file["corgi"]).read_text() == "weights"
    assert "tried some/models:x/tea rose, some/models:x/tea_rose" in nothing
    assert "there are object/ESD/corgi.pt" in nothing
    assert "there is no model; tried no/such_tea" in nowhere


def test_paths_for_another_folder_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "esd/a.pt", "m.yaml")
    monkeypatch.chdir(tmp_path)
    words = ("a=esd/{concept}.pt", "b=OPTML-Group/AdvUnlearn:{concept}_unlearned", "m.yaml", "c=./x/{task}")
    assert models_elsewhere(words) == (
        f"a={tmp_path}/esd/{{concept}}.pt", words[1], f"{tmp_path}/m.yaml", f"c={tmp_path}/x/{{task}}"
    )  # fmt: skip


def test_a_world_says_which_oracles_it_has_and_where(world: World, tmp_path: Path) -> None:
    target, other = world.concepts[:2]
    assert given_models.oracle_of(world, target) is None
    assert given_models.oracle_hint(world) == "the world 'tiny' has no oracle, a model retrained without a concept"
    having = variant(
        world, oracle_concepts=(target,), oracle=lambda concept: tmp_path / "o", oracle_hint="`make oracles`"
    )
    assert given_models.oracle_of(having, target) == tmp_path / "o"
    assert given_models.oracle_of(having, other) is None
    assert given_models.oracle_hint(having) == f"the world 'tiny' has oracles of {target}: `make oracles`"


def test_a_model_replaces_both_networks_and_nothing_stays(
    model: Backbone, pipeline_folder: Path, tmp_path: Path
) -> None:
    networks = {"": model.unet, TEXT: model.pipeline.text_encoder}

    def state() -> dict[str, torch.Tensor]:
        return {p + n: t.clone() for p, network in networks.items() for n, t in network.state_dict().items()}

    before, said = state(), model.embed(["a dog"])
    other = {n: (t + torch.randn(t.shape)).half() if t.is_floating_point() else t for n, t in before.items()}
    save_file({n: t.contiguous() for n, t in other.items()}, tmp_path / "o.safetensors")
    read = given.read(tmp_path / "o.safetensors", pipeline_folder, model).tensors
    assert {t.dtype for t in read.values()} == {torch.float32}
    with model.weights(read):
        assert all(torch.equal(t, other[n].float()) for n, t in state().items())
        assert not torch.equal(model.embed(["a dog"]), said)
    assert all(torch.equal(t, before[n]) for n, t in state().items())
    assert torch.equal(model.embed(["a dog"]), said)


def test_the_oracle_must_be_asked_for_and_be_given_its_weights(harness: Callable[[int], Harness]) -> None:
    assert ORACLE in METHODS
    assert ORACLE not in (*METHODS.names(), *CONTROLS)
    kind = METHODS.get(ORACLE)
    assert (kind.fidelity, bool(kind.about), bool(kind.source)) == ("control", True, True)
    with pytest.raises(RuntimeError, match="a finished model is not trained by the harness"):
        unlearn(harness(0), kind(kind.Config()))
