"""What stands in keys for code: versions of Lethe's own, the source of plug-ins, libraries that a stage uses."""

import dataclasses
from pathlib import Path

import pytest
from test_plugins import METHOD, save

from bench.cells import versions
from bench.cells.versions import STAGES, Stamps, of_method, of_metric
from bench.core import digest
from bench.plan import plugins
from methods import METHODS
from metrics import METRICS

MACHINE = {"device": "cpu", "dtype": "torch.float32", "versions": {"torch": "2", "timm": "1", "diffusers": "3"}}


def test_key_names_only_libraries_that_the_stage_uses() -> None:
    stamps = Stamps(MACHINE)
    assert stamps.of("images")["machine"]["versions"] == {"torch": "2", "diffusers": "3"}
    assert stamps.of("judgements")["machine"]["versions"] == MACHINE["versions"]
    assert stamps.of("reference")["machine"]["versions"] == {"torch": "2", "timm": "1"}


def test_own_methods_and_metrics_are_known_by_version() -> None:
    for name in ("mimmu", "mimmu-retain", "salun", "esd-x", "sdd", "pretrained"):
        assert of_method(METHODS.get(name)) == METHODS.get(name).version
    for name in ("ua", "fid", "pid_unique"):
        assert of_metric(METRICS.get(name)) == METRICS.get(name).version


@pytest.mark.usefixtures("plugged")
def test_plugin_is_known_by_its_source_and_by_what_it_builds_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_plugin_is_known_by_the_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(folder: str, helper: str) -> object:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}_help.py").write_text(helper)
        monkeypatch.syspath_prepend(tmp_path / folder)
        text = f"from {folder}_help import half\n{METHOD}".replace('"mine"', f'"{folder}"')
        plugins.load([save(tmp_path / folder, text)])
        return of_method(METHODS.get(folder))["source"]

    one = known("one", "def half(x):\n    return x / 2\n")
    assert known("two", "def half(x):\n    return x / 3\n") != one


def test_raised_version_moves_exactly_what_follows_from_it() -> None:
    def stamps(**raised: int) -> dict[str, object]:
        changed = {n: dataclasses.replace(s, version=raised.get(n, s.version)) for n, s in STAGES.items()}
        found, mimmu = Stamps(MACHINE, changed), METHODS.get("mimmu")
        own = {name: found.of(name) for name in ("latents", "images", "judgements", "reference", "probes", "words")}
        figures = {name: found.of_figure(name) for name in ("accuracy", "ua", "mi", "pid_unique")}
        return {**own, "training": found.of_training(mimmu), **figures, "curve": found.of_curve([METRICS.get("ua")])}

    def moved(**raised: int) -> set[str]:
        now, before = stamps(**raised), stamps()
        return {name for name in before if now[name] != before[name]}

    figures = {"accuracy", "ua", "mi", "pid_unique", "curve"}
    assert moved(images=2) == {"images", *figures}
    assert moved(judgements=2) == {"judgements", *figures}
    assert moved(probes=2) == {"probes", "mi"}
    assert moved(words=2) == {"words", "pid_unique"}
    assert moved(training=2) == {"training"}
    assert moved(latents=2) == {"latents"}
    assert moved(accuracy=2) == {"accuracy"}
    assert moved(evidence=2) == figures


def test_fingerprint_names_raised_versions_alone() -> None:
    assert Stamps(MACHINE).raised(["ua"]) == {}
    changed = {**STAGES, "images": dataclasses.replace(STAGES["images"], version=2)}
    assert Stamps(MACHINE, changed).raised(["ua"]) == {"images": 2}


def test_added_field_is_left_out_at_its_default() -> None:
    config = dataclasses.make_dataclass("Config", [("lr", float), ("later", int, digest.added(3))], frozen=True)
    assert digest.plain(config(0.1)) == {"lr": 0.1}
    assert digest.plain(config(0.1, 4)) == {"lr": 0.1, "later": 4}
    assert digest.of_json(config(0.1)) == digest.of_json({"lr": 0.1}) != digest.of_json(config(0.1, 4))


def test_code_digest_sees_code_alone() -> None:
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
    assert versions.modules_beside("bench.worlds.pocket.recipe.sheet")
