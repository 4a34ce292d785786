"""What stands in keys for code: versions of Lethe's own, the source of plug-ins, libraries that a stage uses."""

import dataclasses
from pathlib import Path

import pytest
from support.plugin_files import METHOD, save

from bench.cells.artifact import ARTIFACTS, Stamps, of_method, of_metric, raised
from bench.cells.artifacts import Artifacts, Context
from bench.core import digest
from bench.core.config import RunConfig
from bench.core.contents import source_files
from bench.core.store import Entry
from bench.plan import plugins
from bench.plan.plan import Plan, resolve
from bench.worlds import World
from methods import METHODS
from metrics import METRICS

MACHINE = {"device": "cpu", "dtype": "torch.float32", "versions": {"torch": "2", "timm": "1", "diffusers": "3"}}


def test_key_contains_only_libraries_that_the_artifact_uses() -> None:
    stamps = Stamps(MACHINE)
    assert stamps.of(ARTIFACTS["images"])["machine"]["versions"] == {"torch": "2", "diffusers": "3"}
    assert stamps.of(ARTIFACTS["judgements"])["machine"]["versions"] == MACHINE["versions"]
    assert stamps.of(ARTIFACTS["reference"])["machine"]["versions"] == {"torch": "2", "timm": "1"}


def test_keys_contain_versions_of_lethes_methods_and_metrics() -> None:
    for name in ("mimmu", "mimmu-retain", "salun", "esd-x", "sdd", "pretrained"):
        assert of_method(METHODS.get(name)) == METHODS.get(name).version
    for name in ("ua", "fid", "pid_unique"):
        assert of_metric(METRICS.get(name)) == METRICS.get(name).version


@pytest.mark.usefixtures("plugged")
def test_keys_contain_the_source_and_bases_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = METHOD.replace(
        "from methods.mimmu import MimMu", "from methods import noise_levels\nfrom methods.sdd import Sdd"
    )
    plugins.load([save(tmp_path, text.replace("(MimMu)", "(Sdd)"))])
    found = of_method(METHODS.get("mine"))
    assert found["bases"] == {"Sdd": 1}
    assert list(found["uses"]) == ["methods.noise_levels"]
    monkeypatch.setattr(METHODS.get("sdd"), "version", 2)
    assert of_method(METHODS.get("mine"))["bases"] == {"Sdd": 2}


@pytest.mark.usefixtures("plugged")
def test_keys_contain_the_source_of_files_next_to_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(folder: str, helper: str) -> object:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}_help.py").write_text(helper)
        monkeypatch.syspath_prepend(tmp_path / folder)
        text = f"from {folder}_help import half\n{METHOD}".replace('"mine"', f'"{folder}"')
        plugins.load([save(tmp_path / folder, text)])
        return of_method(METHODS.get(folder))["source"]

    one = known("one", "def half(x):\n    return x / 2\n")
    assert known("two", "def half(x):\n    return x / 3\n") != one


def keys_of(plan: Plan) -> dict[str, object]:
    artifacts = Artifacts(Context(plan, machine=MACHINE, content="b", judges_digest=lambda: "j"))
    cell, entry = plan.cells[-1], Entry(Path(), {}, "w")
    scores = {name: artifacts.metric_score.key(METRICS.get(name), cell, entry) for name in ("ua", "mi", "pid_unique")}
    return {
        "latents": artifacts.latents.key(cell.task.name, 4),
        "weights": artifacts.weights.key(cell),
        "snapshot": artifacts.snapshot.key(cell, 1, 2),
        "images": artifacts.images.key(entry),
        "judgements": artifacts.judgements.key(entry),
        "reference": artifacts.reference.key(cell.task.name),
        "probes": artifacts.probes.key(entry, entry, cell.task),
        "words": artifacts.prompt_probes.key(entry, entry, cell.task),
        "accuracy": artifacts.accuracies.key(cell, entry),
        "curve": artifacts.curve.key(cell, entry, [entry]),
        **scores,
    }


def test_raised_version_changes_keys_of_dependent_artifacts_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny"))
    before = keys_of(plan)

    def moved(name: str) -> set[str]:
        with monkeypatch.context() as patch:
            patch.setattr(ARTIFACTS[name], "version", 2)
            now = keys_of(plan)
        return {name for name in before if now[name] != before[name]}

    figures = {"accuracy", "ua", "mi", "pid_unique", "curve"}
    assert moved("latents") == {"latents", "weights", "snapshot"}
    assert moved("training") == {"weights", "snapshot"}
    assert moved("images") == {"images", *figures}
    assert moved("judgements") == {"judgements", *figures}
    assert moved("reference") == {"reference", *figures}
    assert moved("probes") == {"probes", "mi"}
    assert moved("words") == {"words", "pid_unique"}
    assert moved("evidence") == figures
    assert moved("accuracy") == {"accuracy"}
    assert moved("curve") == {"curve"}
    assert moved("metric") == {"ua", "mi", "pid_unique"}


def test_fingerprint_contains_only_raised_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert raised(["ua"]) == {}
    monkeypatch.setattr(ARTIFACTS["images"], "version", 2)
    assert raised(["ua"]) == {"images": 2}


def test_added_field_at_its_default_is_left_out_of_keys() -> None:
    config = dataclasses.make_dataclass("Config", [("lr", float), ("later", int, digest.added(3))], frozen=True)
    assert digest.plain(config(0.1)) == {"lr": 0.1}
    assert digest.plain(config(0.1, 4)) == {"lr": 0.1, "later": 4}
    assert digest.of_json(config(0.1)) == digest.of_json({"lr": 0.1}) != digest.of_json(config(0.1, 4))


def test_code_digest_ignores_comments_docstrings_and_layout() -> None:
    text = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    same = 'import os\n# note\n\ndef f(x):\n    """Other."""\n\n    return (x\n            + 1)  # here\n'
    assert digest.of_code(text) == digest.of_code(same)
    assert digest.of_code(text) != digest.of_code(text.replace("+ 1", "+ 2"))
    assert digest.of_code(text) != digest.of_code(text.replace("f(x)", "f(x, y=0)"))


def test_lethe_s_modules_declare_their_version(tmp_path: Path) -> None:
    from bench.worlds.pocket import judges
    from bench.worlds.pocket.recipe import sheet

    assert digest.of_module(judges) == judges.VERSION
    assert digest.of_module(sheet) == digest.of_source(sheet)
    assert source_files.closure(["bench.worlds.pocket.recipe.sheet"])
